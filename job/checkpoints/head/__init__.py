"""Which tensor is W, and how it relates to the input embedding.

The modules in the order in which they work:

- ``weight_sets`` chooses the weight files by their names; ``gguf_files`` does so for GGUF.
- ``weights`` and ``headers`` find where each of their tensors lies.
- ``unembedding`` decides which tensor is W, by ``names``, ``config`` and ``architecture``; ``gguf`` does so for GGUF.
- ``quantisation`` recognises a head that is quantised, ``shape`` one that is stored column by column.
- ``tie`` compares W with the input embedding.
- ``warnings`` lists what a reader of the results should know of W.
- ``adapters`` leads from an adapter to the model that it adapts.
"""
