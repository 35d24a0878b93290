"""What Hydra finds by `hydra.searchpath=[pkg://my_lab.conf]`."""
