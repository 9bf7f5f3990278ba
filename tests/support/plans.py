"""Plans as tests want them: the kernel keeps the books, a rule is judged alone unless said otherwise."""

from functools import partial

from algo_research.research.plan import Plan, make_plan
from algo_research.research.road import research

bare_research = partial(research, limits=None)  # no live replay: it has tests of its own, and starts processes


def kernel_plan(strategy: str = "moving_average", compare: tuple[str, ...] = (), **choices) -> Plan:
    told = {"datasets": ["any/ONE/1h"], "engine": "kernel", "strategy": strategy, "compare": list(compare)}
    return make_plan({**told, **choices})


def usual_plan(**choices) -> Plan:
    """As a workspace has it: a model, and a moving average beside it."""
    return kernel_plan(**{"strategy": "model", "compare": ("moving_average",), **choices})
