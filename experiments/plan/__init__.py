"""How many replicas of what: the work of a problem, formulas for it, and a simulation of the pool that checks them."""
