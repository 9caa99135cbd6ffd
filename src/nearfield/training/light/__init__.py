"""The light half of training: maps, bridges, static tables and vocabularies, fitted with numpy alone.

The closed forms are a few lines of linear algebra each, so no library is used for them: scikit-learn's ridge shrinks
to zero and has no prior at the identity, and its PCA would be a dependency for one decomposition.
"""
