"""Several replicas of one part behind one call: in this process, in processes of this machine, on a Ray cluster."""
