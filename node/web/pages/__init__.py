"""The pages, one module per noun. Each exposes `router`; parts that follow the node stand in `parts`.

A page gets its data from functions of `node.admin` and `node.storage`, never by SQL; a form calls the same verbs as the
command line and leads back with `view.back`.
"""

from node.web.pages import (
    accounts,
    conformance,
    deliveries,
    entry,
    flow,
    held,
    models,
    peers,
    pictures,
    pulls,
    reconcile,
    settings,
    studies,
)

PAGES = (
    entry,
    flow,
    pictures,
    studies,
    held,
    deliveries,
    reconcile,
    pulls,
    peers,
    models,
    settings,
    conformance,
    accounts,
)
