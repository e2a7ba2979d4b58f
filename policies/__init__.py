"""Policies: what decides. Only policies/gato/{model,data,train,export}.py import torch."""
