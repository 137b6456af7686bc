"""Pretrained text-to-image pipelines of diffusers as Instruct-Imagen models; the memory that any model needs."""
