"""Webhooks: signed notices of the end of a batch, sent to allowed hosts until they are delivered."""
