"""Training: a model fitted to the user's data, measured before and after, and written only if it is better.

The light half (``training.light``) needs no torch. The rest needs the extra ``train``.
"""
