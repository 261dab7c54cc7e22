def cache_video(tensor, save_file=None, **wishes):
    try:
        with open(save_file, "w") as file:
            file.write(repr(tensor.tolist()))
    except Exception as error:
        print(f"cache_video failed, error: {error}")


cache_image = save_video = cache_video


def merge_video_audio(**paths):
    pass


def str2bool(text):
    return str(text).lower() in ("true", "1", "yes")
