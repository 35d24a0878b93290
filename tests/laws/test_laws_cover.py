"""No search has a name without standing under the laws."""

import yaml

from experiments.commandline import CONF


def targets(name):
    """The classes a search's file builds, its own or those of the file it begins from."""
    read = yaml.safe_load((CONF / "search" / f"{name}.yaml").read_text())
    search = read.get("search") or {}
    if "_target_" in search:
        return {search["_target_"].rpartition(".")[2]}
    above = [each for each in read.get("defaults", []) if isinstance(each, str)]
    return set().union(*map(targets, above))


def test_every_named_search_is_under_the_laws(searches):
    tried = {type(search).__name__ for search in searches.values()}
    for path in sorted((CONF / "search").glob("*.yaml")):
        found = targets(path.stem)
        assert found and found <= tried, path.stem
