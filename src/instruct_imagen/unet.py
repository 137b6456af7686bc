"""InstructUNet: a diffusers U-Net plus cross-attention to the context (§3.1, A.2.1, Table 5).

The backbone is composed, never copied: a `UNet2DConditionModel` of DeepFloyd IF's kind (added keys and values) or of
Stable Diffusion's (transformer blocks) can be wrapped, and a fresh `InstructUNet` computes exactly what its backbone
computes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

from .attention import ContextAttnProcessor, SelfAttnProcessor
from .cache import ContextLayout, KeyValueCache
from .presets import ContextPlaces
from .tokenizer import TextFormat


def masked_mean(states_BLE: torch.Tensor, mask_BL: torch.Tensor | None) -> torch.Tensor:
    """Mean over the valid tokens, [B, L, E] -> [B, E]; no mask: all are. A row without valid tokens gives zero."""
    if mask_BL is None:
        return states_BLE.mean(1)
    weights = mask_BL.to(states_BLE.dtype)[..., None]
    return (states_BLE * weights).sum(1) / weights.sum(1).clamp(min=1)


class InstructUNet(ModelMixin, ConfigMixin, PeftAdapterMixin):
    """A denoiser conditioned on text and on a multi-modal context.

    Args:
        backbone_config: configuration of the `UNet2DConditionModel`.
        patch_size: pixels are folded into channels by this factor before the backbone (1: none). The paper's first
            block already works at half the picture's size; with 2 the backbone's blocks have its resolutions.
        context_places: attention layers that read the context: those of the "lowest" resolution (Table 5), "all",
            "none", or those of the "middle" block alone (§3.1: the bottleneck).
        context_positions: give context queries and keys a fixed 2-D position (departure, see `attention.sincos_2d`).
        context_text: add the pooled text of its pair to every context token, so that a marker finds its picture
            (departure, starts at zero).
        text_tokens, lowercase_text: how the backbone was trained to read its texts, see `TextFormat`.
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
        text_tokens: int | None = None,
        lowercase_text: bool = False,
    ):
        super().__init__()
        self.backbone = UNet2DConditionModel.from_config(backbone_config)
        self._install()

    def _install(self) -> None:
        """Replaces every attention processor; those in `context_places` also read the context."""
        config = self.backbone.config
        context_dim = config.block_out_channels[-1]
        layers = {
            name: self.backbone.get_submodule(name.removesuffix(".processor")) for name in self.backbone.attn_processors
        }
        reading = [name for name, attn in layers.items() if attn.is_cross_attention]
        places = _places(self.config.context_places, reading)
        processors: dict[str, Any] = {name: SelfAttnProcessor() for name in layers if name not in reading}
        for index, name in enumerate(reading):
            dim = context_dim if name.startswith(places) else None
            hidden_dim = layers[name].to_q.in_features
            processors[name] = ContextAttnProcessor(index, hidden_dim, dim, self.config.context_positions)
        self.backbone.set_attn_processor(processors)
        self.context_norm = nn.LayerNorm(context_dim, elementwise_affine=False)
        text_dim = config.encoder_hid_dim or config.cross_attention_dim
        names_text = self.config.context_text and self.config.context_places != "none"
        self.context_text_proj = nn.Linear(text_dim, context_dim) if names_text else None
        if self.context_text_proj is not None:
            nn.init.zeros_(self.context_text_proj.weight)
            nn.init.zeros_(self.context_text_proj.bias)

    @classmethod
    def from_backbone(cls, backbone: UNet2DConditionModel, **options: Any) -> InstructUNet:
        """Wraps a trained backbone; the context layers start at zero output.

        The weights are shared with `backbone`, not copied: it may hold more than memory does twice.
        """
        config = {key: value for key, value in backbone.config.items() if not key.startswith("_")}
        with torch.device("meta"):
            model = cls(backbone_config=config, **options)
        missing, unexpected = model.backbone.load_state_dict(backbone.state_dict(), strict=False, assign=True)
        absent = [name for name in missing if ".processor." not in name]
        if absent or unexpected:
            raise ValueError(f"this U-Net is not what its configuration says: {(absent + unexpected)[0]}")
        model._install()  # again, now with memory behind it
        return model.to(dtype=backbone.dtype) if backbone.dtype != torch.float32 else model

    @property
    def size_px(self) -> int:
        """Side of the square pictures, or of the latents, that are denoised."""
        return int(self.backbone.config.sample_size * self.config.patch_size)

    @property
    def num_channels(self) -> int:
        """Channels of what is denoised."""
        return int(self.backbone.config.in_channels // self.config.patch_size**2)

    @property
    def text_format(self) -> TextFormat:
        """How texts are tokenized for this network."""
        return TextFormat(self.config.text_tokens, self.config.lowercase_text)

    @property
    def reads_context(self) -> bool:
        """Whether any attention layer reads references."""
        return any(processor.reads_context for _, processor in self.context_layers)

    @property
    def context_layers(self) -> list[tuple[Any, ContextAttnProcessor]]:
        """(attention layer, its processor) in the order of `KeyValueCache.layers`: those that read text."""
        return [
            (self.backbone.get_submodule(name.removesuffix(".processor")), processor)
            for name, processor in self.backbone.attn_processors.items()
            if isinstance(processor, ContextAttnProcessor)
        ]

    def num_context_parameters(self) -> int:
        """Parameters added to the backbone for reading the context."""
        added = [p for _, processor in self.context_layers for p in processor.parameters()]
        return sum(p.numel() for p in added) + (
            sum(p.numel() for p in self.context_text_proj.parameters()) if self.context_text_proj else 0
        )

    @apply_forward_hook  # with offloading, the weights have to be where they are needed before `forward` is called
    def encode_context(
        self, samples_RCHW: torch.Tensor, text_RLE: torch.Tensor, text_mask_RL: torch.Tensor
    ) -> torch.Tensor:
        """Runs the backbone's down path at t = 0 on clean references, each conditioned on its own text (§3.1).

        Args:
            samples_RCHW: references as the network denoises pictures: pixels in -1..1, or latents.
            text_RLE: states of each reference's text.
            text_mask_RL: bool, tokens that are words.

        Returns:
            Normalised feature maps [R, C', h, w] of the lowest resolution.
        """
        cache = self._project(text_RLE, text_mask_RL, None, None)
        backbone, config = self.backbone, self.backbone.config
        sample, time_condition = self._clean_input(samples_RCHW)
        sample = 2 * sample - 1 if config.center_input_sample else sample
        timestep = torch.zeros(len(sample), dtype=torch.long, device=sample.device)
        emb = backbone.time_embedding(backbone.get_time_embed(sample, timestep), time_condition)
        class_emb = backbone.get_class_embed(sample, self._class_labels(text_RLE, cache.text_mask))
        if class_emb is not None:
            emb = torch.cat([emb, class_emb], dim=-1) if config.class_embeddings_concat else emb + class_emb
        aug_emb = backbone.get_aug_embed(emb, text_RLE, {})
        emb = emb if aug_emb is None else emb + aug_emb
        emb = emb if backbone.time_embed_act is None else backbone.time_embed_act(emb)
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
            features = features + self.context_text_proj(masked_mean(text_RLE, text_mask_RL))[:, None, None, :]
        return features.permute(0, 3, 1, 2)

    @apply_forward_hook
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
            text_mask_BL: bool, tokens that are words; a backbone that reads padding too reads all.
            context_BRChw: features of up to R references per instruction (`encode_context`), padded; or None.
            context_mask_BR: bool, which of the R places hold a reference.
        """
        return self._project(text_BLE, text_mask_BL, context_BRChw, context_mask_BR)

    def _project(
        self,
        text_BLE: torch.Tensor,
        text_mask_BL: torch.Tensor,
        context_BRChw: torch.Tensor | None,
        context_mask_BR: torch.Tensor | None,
    ) -> KeyValueCache:
        states = self.backbone.process_encoder_hidden_states(text_BLE, {})
        tokens, grid, layout = None, (0, 0), None
        if context_BRChw is not None and context_mask_BR is not None and context_mask_BR.any():
            grid = (context_BRChw.shape[-2], context_BRChw.shape[-1])
            layout, packed = ContextLayout.of(context_mask_BR)
            tokens = context_BRChw[packed].flatten(2).transpose(1, 2)
        layers = tuple(p.project(attn, states, tokens, grid) for attn, p in self.context_layers)
        return KeyValueCache(layers, text_mask_BL if self.config.text_tokens is None else None, layout)

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
        return self._evaluate(self._fold(sample_BCHW), timestep_B, text_BLE, cache)

    def _evaluate(
        self,
        folded_BCHW: torch.Tensor,
        timestep_B: torch.Tensor,
        text_BLE: torch.Tensor,
        cache: KeyValueCache,
        **condition: torch.Tensor,
    ) -> torch.Tensor:
        """The backbone on folded pictures, its output unfolded; `condition`: further inputs of its time embedding."""
        output = self.backbone(
            folded_BCHW,
            timestep_B,
            encoder_hidden_states=text_BLE,
            cross_attention_kwargs={"cache": cache},
            return_dict=False,
            **{"class_labels": self._class_labels(text_BLE, cache.text_mask), **condition},
        )[0]
        return F.pixel_shuffle(output, self.config.patch_size) if self.config.patch_size > 1 else output

    def _clean_input(self, images_RCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Clean references as the backbone takes them, and their condition for the time embedding."""
        return self._fold(images_RCHW), None

    def _fold(self, sample: torch.Tensor) -> torch.Tensor:
        return F.pixel_unshuffle(sample, self.config.patch_size) if self.config.patch_size > 1 else sample

    def _class_labels(self, text_BLE: torch.Tensor, text_mask_BL: torch.Tensor | None) -> torch.Tensor | None:
        """Pooled text for backbones whose class embedding is a projection of a vector."""
        wanted = self.backbone.config.class_embed_type == "simple_projection"
        return masked_mean(text_BLE, text_mask_BL) if wanted else None


def _places(places: ContextPlaces, names: list[str]) -> tuple[str, ...]:
    """How the names of the attention processors begin that read the context."""
    return {"none": (), "lowest": _lowest_places(names), "middle": ("mid_block.",), "all": ("",)}[places]


def _lowest_places(names: list[str]) -> tuple[str, ...]:
    """Where the lowest resolutions with attention to text begin: last such down block, middle, first such up block.

    In Table 5's network, and in DeepFloyd IF, these are the lowest-resolution blocks. Stable Diffusion's lowest blocks
    hold no attention but in the middle, so the next higher ones count.
    """
    down, up = (
        {int(name.split(".")[1]) for name in names if name.startswith(side)} for side in ("down_blocks.", "up_blocks.")
    )
    return ("mid_block.", *(f"down_blocks.{max(down)}." for _ in down), *(f"up_blocks.{min(up)}." for _ in up))
