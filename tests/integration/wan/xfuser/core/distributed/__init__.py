_done = set()


def init_distributed_environment(rank, world_size):
    assert "world" not in _done, "world group is already initialized"
    _done.add("world")


def initialize_model_parallel(sequence_parallel_degree, ring_degree, ulysses_degree):
    assert "model" not in _done, "data parallel group is already initialized"
    _done.add("model")
