"""Graders of programs: a sandbox, what runs inside it, rules of comparison, and a pool of sandboxes."""
