class DashScopePromptExpander:
    pass


class QwenPromptExpander:
    pass
