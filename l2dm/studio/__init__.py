"""The studio: one page in the browser on one's own machine, over the library's public verbs alone. Needs
``l2dm[studio]``.

``app`` answers requests, ``security`` says who may ask. Whatever needs a model is a *job*: a folder on disk
(``jobs``) that a process of its own works through (``worker``, ``work``), so that a closed tab or a restarted
studio stops nothing.
"""
