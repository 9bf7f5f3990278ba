"""A section that shapes results belongs to a run's identity, whoever brought it."""

from importlib.metadata import EntryPoint

import pytest

from algo_research.core.settings import Section
from algo_research.runs.parameters import find_template, resolve_parameters
from algo_research.runs.runner import compare_inputs, gather_inputs, identity
from algo_research.workspace import settings as composed
from algo_research.workspace.bootstrap import open_workspace


class Shaping(Section):
    "Of a package that somebody installed."

    shapes_results = True
    speed: int = 1


class Silent(Section):
    "The same, and it shapes nothing."

    speed: int = 1


@pytest.fixture(params=[Shaping, Silent], ids=["shaping", "silent"])
def section(request, monkeypatch):
    point = EntryPoint("acme", f"{__name__}:{request.param.__name__}", composed.GROUP)
    usual = composed.entry_points
    monkeypatch.setattr(composed, "entry_points", lambda group: [*usual(group=group), point])
    composed.settings_class.cache_clear()
    yield request.param
    composed.settings_class.cache_clear()


def inputs(folder, **told):
    template = find_template("features")
    with open_workspace(folder, **told) as workspace:
        return gather_inputs(template, resolve_parameters(template, {"dataset": "synthetic/noise:1/1h"}), workspace)


def test_a_new_section_that_shapes_results_is_part_of_the_identity(section, tmp_path):
    usual, other = inputs(tmp_path), inputs(tmp_path, acme={"speed": 2})
    assert (identity(usual) != identity(other)) == section.shapes_results
    named = [str(d) for d in compare_inputs(usual, other)]
    assert named == (["setting acme.speed: 1 → 2"] if section.shapes_results else [])
