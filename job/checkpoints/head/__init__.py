"""Which tensor is W, and how it relates to the input embedding.

The modules in the order in which they work:

- ``weight_sets`` chooses the weight files by their names; ``gguf_choice`` chooses those of GGUF by their headers, of
  which ``gguf_kinds`` tells what they are and ``gguf_files`` which belong together.
- ``weights`` and ``headers`` find where each of their tensors lies.
- ``unembedding`` decides which tensor is W, by ``names``, ``config`` and ``architecture``; ``gguf`` does so for GGUF.
- ``quantisation`` recognises a head that is quantised, ``wrappers`` one that is wrapped, ``shape`` one that is stored
  column by column.
- ``row_meaning`` tells whether its rows are tokens; ``suggestions`` names what could be given where it cannot be told.
- ``tie`` compares W with the input embedding.
- ``warnings`` lists what a reader of the results should know of W.
- ``adapters`` leads from an adapter to the model that it adapts.
"""
