"""What users write: the custom resources and scenario documents as pydantic types, their CRDs, and the way inside.

Who calls it: `serving`, `power` and `replay` (convert, manifests), `app` (crdgen). Must not know: who fetched a
manifest, and what is decided from it.
"""
