"""A lattice beside the tree: nodes that stand for each other, so that what follows one follows all of them."""

from __future__ import annotations

from collections.abc import Iterator

from search.tree import Node, Tree


class Lattice:
    """Classes of nodes of one tree, with the edges of their members; it never has a cycle.

    What belongs to it are the nodes with a `logprob` among their notes: of the tokens listed after a prefix, those a
    search has taken. A class is named by its oldest member, and spelt as its oldest member spells itself.
    """

    def __init__(self, root: Node):
        self.root = root
        self._name: dict[Node, Node] = {}
        self._members: dict[Node, list[Node]] = {}

    @classmethod
    def of(cls, tree: Tree) -> Lattice:
        """The lattice a finished search has left in the notes: `merged` is the id of the node that stands for one."""
        lattice = cls(tree.root)
        for node in tree:
            if "merged" in node.notes:
                lattice._join(node, tree.nodes[int(node.notes["merged"])])
        return lattice

    def name(self, node: Node) -> Node:
        """The node that stands for `node`; itself, unless it was merged."""
        while node in self._name:
            node = self._name[node]
        return node

    def members(self, node: Node) -> list[Node]:
        """The class of `node`, first the one that names it."""
        return self._members.get(self.name(node), [self.name(node)])

    def after(self, node: Node) -> list[Node]:
        """The classes that follow that of `node`, by their names; no class twice."""
        children = (child for member in self.members(node) for child in member.children if "logprob" in child.notes)
        return list(dict.fromkeys(self.name(child) for child in children))

    def reaches(self, node: Node, other: Node) -> bool:
        """Whether a path of at least no step leads from the class of `node` to that of `other`."""
        goal, seen, todo = self.name(other), set[Node](), [self.name(node)]
        while todo:
            if (here := todo.pop()) is goal:
                return True
            if here not in seen:
                seen.add(here)
                todo += self.after(here)
        return False

    def merge(self, node: Node, other: Node) -> Node | None:
        """Makes the two classes one; the name that gives way, or None where they are one or a path joins them."""
        if self.reaches(node, other) or self.reaches(other, node):
            return None
        return self._join(*sorted((self.name(node), self.name(other)), key=lambda each: each.id, reverse=True))

    def _join(self, node: Node, into: Node) -> Node:
        node, into = self.name(node), self.name(into)
        self._members[into] = self.members(into) + self.members(node)
        self._members.pop(node, None)
        self._name[node] = into
        return node

    def count(self) -> int:
        """Different paths from the root to a finished node."""
        known: dict[Node, int] = {}
        todo = [self.name(self.root)]
        while todo:
            if (here := todo.pop()) in known:
                continue
            if here.complete:
                known[here] = 1
                continue
            after = self.after(here)
            if missing := [each for each in after if each not in known]:
                todo += [here, *missing]
            else:
                known[here] = sum(known[each] for each in after)
        return known[self.name(self.root)]

    def paths(self) -> Iterator[tuple[Node, ...]]:
        """The paths from the root (left out) to each finished node, a node per class; there may be very many."""
        todo: list[tuple[Node, ...]] = [(self.name(self.root),)]
        while todo:
            path = todo.pop()
            if path[-1].complete:
                yield path[1:]
            else:
                todo += [(*path, each) for each in reversed(self.after(path[-1]))]

    def texts(self) -> Iterator[str]:
        """What the paths say; two may say the same."""
        return ("".join(node.segment.text for node in path) for path in self.paths())
