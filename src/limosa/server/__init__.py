"""
The HTTP server: one migration, watched and steered through several faces.

Each face is a module with a `router`; `create_app` puts them together. None has a state of its
own: they read the `Snapshot` of a `Service` and call its verbs. The engine is another process,
and both meet only in the migration's folder.
"""
