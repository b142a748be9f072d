"""The six verbs: receive, settle, route, infer, report, deliver."""
