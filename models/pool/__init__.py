"""A pool of replicas on a Ray cluster: `link` is the caller's side, `driver` a process of its own, `replica` runs
there.

Only `driver` and `replica` load Ray, and only `replica` TensorFlow.
"""
