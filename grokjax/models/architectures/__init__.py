"""Architectures, a module each; sizes and outputs are those of ``grokjax.models.network``.

Beside its settings, an architecture has:

- ``learns``: kinds of examples it takes: ``pairs``, ``features``;
- ``vocabulary``: path of a parameter → the axis, from the end, along which it runs over elements or
  outputs, and which of the two;
- ``state_names``: names of its layers, in order;
- ``build(sizes, real, rngs)``: layers with initial parameters, an NNX module; ``real`` are the
  sizes without padding (traced);
- ``apply(net, inputs, every)``: the outputs of such layers for (B, 2) element numbers or
  (B, features) numbers; with ``every``, also the last state is that of every token;
- ``head_rows(net)``: rows over elements of each head of the first block, (P, H, width); may be
  empty.
"""
