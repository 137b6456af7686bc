"""InstructUNet: a diffusers U-Net plus cross-attention to the context (§3.1, A.2.1, Table 5).

The backbone is composed, never copied: any `UNet2DConditionModel` with added-key/value attention (the blocks of
DeepFloyd IF) can be wrapped, and a fresh `InstructUNet` computes exactly what its backbone computes.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from torch import nn

from .attention import ContextAttnProcessor, ContextLayout, KeyValueCache

ContextPlaces = Literal["lowest", "all"]


def masked_mean(states_BLE: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
    """Mean over the valid tokens, [B, L, E] -> [B, E]; a row without valid tokens gives zero."""
    weights = mask_BL.to(states_BLE.dtype)[..., None]
    return (states_BLE * weights).sum(1) / weights.sum(1).clamp(min=1)


class InstructUNet(ModelMixin, ConfigMixin, PeftAdapterMixin):
    """A denoiser conditioned on text and on a multi-modal context.

    Args:
        backbone_config: configuration of the `UNet2DConditionModel`.
        patch_size: pixels are folded into channels by this factor before the backbone (1: none). The paper's first
            block already works at half the picture's size; with 2 the backbone's blocks have its resolutions.
        context_places: attention layers that read the context: "lowest" (Table 5) or "all".
        context_positions: give context queries and keys a fixed 2-D position (departure, see `attention.sincos_2d`).
        context_text: add the pooled text of its pair to every context token, so that a marker finds its picture
            (departure, starts at zero).
    """

    @register_to_config
    def __init__(
        self,
        *,  # what is given by position, diffusers' config takes for a default
        backbone_config: dict[str, Any],
        patch_size: int = 1,
        context_places: ContextPlaces = "lowest",
        context_positions: bool = True,
        context_text: bool = True,
    ):
        super().__init__()
        self.backbone = UNet2DConditionModel.from_config(backbone_config)
        self._install(context_places, context_positions, context_text)

    def _install(self, places: ContextPlaces, positions: bool, text: bool) -> None:
        """Replaces every attention processor; those in `places` also read the context."""
        config = self.backbone.config
        context_dim = config.block_out_channels[-1]
        processors = {}
        for index, name in enumerate(self.backbone.attn_processors):
            attn = self.backbone.get_submodule(name.removesuffix(".processor"))
            hidden_dim = attn.to_q.in_features
            reads = places == "all" or _is_lowest(name, len(config.down_block_types))
            processors[name] = ContextAttnProcessor(index, hidden_dim, context_dim if reads else None, positions)
        self.backbone.set_attn_processor(dict(processors))
        self.context_norm = nn.LayerNorm(context_dim, elementwise_affine=False)
        text_dim = config.encoder_hid_dim or config.cross_attention_dim
        self.context_text_proj = nn.Linear(text_dim, context_dim) if text else None
        if self.context_text_proj is not None:
            nn.init.zeros_(self.context_text_proj.weight)
            nn.init.zeros_(self.context_text_proj.bias)

    @classmethod
    def from_backbone(cls, backbone: UNet2DConditionModel, **options: Any) -> InstructUNet:
        """Wraps a trained backbone; its weights are taken over, the context layers start at zero output."""
        config = {key: value for key, value in backbone.config.items() if not key.startswith("_")}
        model = cls(backbone_config=config, **options)
        model.backbone.load_state_dict(backbone.state_dict(), strict=False)
        return model.to(dtype=backbone.dtype) if backbone.dtype != torch.float32 else model

    @property
    def context_layers(self) -> list[tuple[Any, ContextAttnProcessor]]:
        """(attention layer, its processor) in the order of `KeyValueCache.layers`."""
        names = self.backbone.attn_processors
        return [(self.backbone.get_submodule(n.removesuffix(".processor")), p) for n, p in names.items()]

    def num_context_parameters(self) -> int:
        """Parameters added to the backbone for reading the context."""
        added = [p for _, processor in self.context_layers for p in processor.parameters()]
        return sum(p.numel() for p in added) + (
            sum(p.numel() for p in self.context_text_proj.parameters()) if self.context_text_proj else 0
        )

    def encode_context(
        self, images_RCHW: torch.Tensor, text_RLE: torch.Tensor, text_mask_RL: torch.Tensor
    ) -> torch.Tensor:
        """Runs the backbone's down path at t = 0 on clean references, each conditioned on its own text (§3.1).

        Args:
            images_RCHW: references in -1..1.
            text_RLE: states of each reference's text.
            text_mask_RL: bool, valid tokens.

        Returns:
            Normalised feature maps [R, C', h, w] of the lowest resolution.
        """
        cache = self.project(text_RLE, text_mask_RL, None, None)
        pooled = masked_mean(text_RLE, text_mask_RL)
        backbone = self.backbone
        sample = self._fold(images_RCHW)
        timestep = torch.zeros(len(sample), dtype=torch.long, device=sample.device)
        emb = backbone.time_embedding(backbone.get_time_embed(sample, timestep))
        class_emb = backbone.get_class_embed(sample, self._class_labels(pooled))
        if class_emb is not None:
            emb = emb + class_emb
        aug_emb = backbone.get_aug_embed(emb, text_RLE, {})
        if aug_emb is not None:
            emb = emb + aug_emb
        states = backbone.process_encoder_hidden_states(text_RLE, {})
        sample = backbone.conv_in(sample)
        for block in backbone.down_blocks:
            if getattr(block, "has_cross_attention", False):
                sample, _ = block(
                    hidden_states=sample,
                    temb=emb,
                    encoder_hidden_states=states,
                    cross_attention_kwargs={"cache": cache},
                )
            else:
                sample, _ = block(hidden_states=sample, temb=emb)
        features = self.context_norm(sample.permute(0, 2, 3, 1))
        if self.context_text_proj is not None:
            features = features + self.context_text_proj(pooled)[:, None, None, :]
        return features.permute(0, 3, 1, 2)

    def project(
        self,
        text_BLE: torch.Tensor,
        text_mask_BL: torch.Tensor,
        context_BRChw: torch.Tensor | None,
        context_mask_BR: torch.Tensor | None,
    ) -> KeyValueCache:
        """Keys and values of every attention layer, independent of the denoising step.

        Args:
            text_BLE: text states of the instructions.
            text_mask_BL: bool, valid tokens.
            context_BRChw: features of up to R references per instruction (`encode_context`), padded; or None.
            context_mask_BR: bool, which of the R places hold a reference.
        """
        states = self.backbone.process_encoder_hidden_states(text_BLE, {})
        tokens, grid, layout = None, (0, 0), None
        if context_BRChw is not None and context_mask_BR is not None and context_mask_BR.any():
            grid = (context_BRChw.shape[-2], context_BRChw.shape[-1])
            layout, packed = ContextLayout.of(context_mask_BR)
            tokens = context_BRChw[packed].flatten(2).transpose(1, 2)
        layers = tuple(p.project(attn, states, tokens, grid) for attn, p in self.context_layers)
        return KeyValueCache(layers, text_mask_BL, layout)

    def forward(
        self,
        sample_BCHW: torch.Tensor,
        timestep_B: torch.Tensor,
        text_BLE: torch.Tensor,
        cache: KeyValueCache,
    ) -> torch.Tensor:
        """One denoising evaluation; what the output means (noise, v, clean image) is the scheduler's prediction type.

        Args:
            sample_BCHW: noisy pictures.
            timestep_B: int, 0 .. num_train_timesteps - 1.
            text_BLE: text states (pooled into the time embedding; its keys and values come from `cache`).
            cache: from `project`, rows matching the batch.

        Returns:
            Prediction, same shape as `sample_BCHW` (more channels if the backbone learns a variance).
        """
        pooled = masked_mean(text_BLE, cache.text_mask)
        output = self.backbone(
            self._fold(sample_BCHW),
            timestep_B,
            encoder_hidden_states=text_BLE,
            class_labels=self._class_labels(pooled),
            cross_attention_kwargs={"cache": cache},
            return_dict=False,
        )[0]
        return F.pixel_shuffle(output, self.config.patch_size) if self.config.patch_size > 1 else output

    def _fold(self, sample: torch.Tensor) -> torch.Tensor:
        return F.pixel_unshuffle(sample, self.config.patch_size) if self.config.patch_size > 1 else sample

    def _class_labels(self, pooled: torch.Tensor) -> torch.Tensor | None:
        """Pooled text for backbones whose class embedding is a projection of a vector."""
        return pooled if self.backbone.config.class_embed_type == "simple_projection" else None


def _is_lowest(name: str, num_down_blocks: int) -> bool:
    """Whether an attention processor sits at the lowest resolution: last down block, middle, first up block."""
    return name.startswith((f"down_blocks.{num_down_blocks - 1}.", "mid_block.", "up_blocks.0."))
