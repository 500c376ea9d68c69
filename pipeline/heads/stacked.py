"""Train many heads of one shape at once.

The first layers of all heads are columns of one matrix. Heads may differ in optimizer settings, dropout,
features and initial weights; they share row order, views and dropout noise. Keras's updates are reproduced.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.heads.data import HeadData, Points, Rows, blocks
from pipeline.notation import LayerSpec, parse_blocks
from pipeline.progress import Progress, silent
from pipeline.recipes.heads import NetworkHead
from pipeline.recipes.sweep import STACKED, dense_parts
from pipeline.training.feed import prefetch
from pipeline.training.optimizers import SCHEDULES, warmup_updates

Norm = tuple[tf.Variable, ...]  # scale, offset, moving mean, moving variance
Update = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], None]  # gradient, rates, decay, step number

NORM_MOMENTUM, NORM_EPSILON = 0.9, 1e-3  # of the notation's batch norm
ADAM_DECAYS, ADAM_EPSILON = (0.9, 0.999), 1e-7  # Keras's defaults
SGD_MOMENTUM = 0.9
CHEAP_OUTPUTS = 16  # of a head: up to here one product over all pairs of heads beats one per head
STEPS_PER_CALL = 16  # training steps in one graph call
PREDICT_ROWS = 1000  # rows per forward pass


def train_stack(
    recipe: NetworkHead,
    points: Points,
    data: HeadData,
    *,
    precision: str = "float32",
    masks: np.ndarray | None = None,
    progress: Progress = silent,
) -> np.ndarray:
    """Train K heads and return their logits (V * n, K, C) float32 on the val rows.

    A point may set any of STACKED; the recipe has the rest. masks (D, K) of 0 and 1 selects each head's
    features, by default all. precision applies to matrix products in training; the returned logits are
    computed in float32. The logits of a head that diverges are NaN.
    """
    examples = data.examples
    batch = min(recipe.batch_size, len(examples.train))
    steps, epochs = len(examples.train) // batch, examples.epochs(recipe)
    stack = _Stack(recipe, points, data, masks, precision)
    update = stack.update_function(updates=steps * epochs)
    rng = np.random.Generator(np.random.PCG64([points[0].get("seed", 0), 0]))
    for epoch in range(epochs):
        epoch_rows = rng.permutation(len(examples.train))[: steps * batch].reshape(steps, batch)
        if data.views > 1:
            epoch_rows = epoch_rows + len(examples.train) * rng.integers(0, data.views, epoch_rows.shape)
        parts = (epoch_rows[start : start + STEPS_PER_CALL] for start in range(0, steps, STEPS_PER_CALL))
        done = epoch * steps
        for batches in prefetch(map(stack.gather, parts)):
            update(*batches)
            done += len(batches[-1])
            progress(f"{len(points)} heads at once", done, steps * epochs, "steps")
    return stack.predict_logits(data.val)


@dataclass(eq=False)
class _Layer:
    """The weights of one dense layer of all heads, and the rest of its block."""

    kernel: tf.Variable  # (D, K * H) for the first layer, (K, H, G) after it
    bias: tf.Variable  # (K, H)
    rest: tuple[LayerSpec, ...] = ()  # the layers of its block after the dense layer
    norms: tuple[Norm, ...] = ()  # (K, H) each, for each batch norm in rest
    activation: str | None = None


class _Stack:
    """The networks of K heads as one; hidden activations are (B, K, H)."""

    def __init__(
        self, recipe: NetworkHead, points: Points, data: HeadData, masks: np.ndarray | None, precision: str
    ):
        self.recipe, self.count, self.classes = recipe, len(points), data.classes
        self.dtype = tf.as_dtype(precision)
        rows = data.train
        self.inputs = tf.constant(rows, self.dtype) if isinstance(rows, np.ndarray) else rows
        self.labels, self.weights = data.train_labels, data.train_weights / data.train_weights.mean()
        features = rows.shape[1]
        self.learning_rate, self.weight_decay, self.dropout, self.label_smoothing = (
            np.array([point.get(name, getattr(recipe, name)) for point in points], np.float32)
            for name in STACKED[:4]
        )
        seeds = [point.get("seed", 0) for point in points]
        self.mask = None if masks is None or masks.all() else tf.constant(masks[:, :, None], tf.float32)
        fan_ins = np.full(self.count, features) if masks is None else masks.sum(axis=0)
        self.draws = tf.constant([seeds[0], 1], tf.int32)
        rngs = [np.random.Generator(np.random.PCG64([seed, 2])) for seed in seeds]
        self.layers = self._build(rngs, features, fan_ins)
        self.step_number = tf.Variable(0, dtype=tf.int32)

    def _build(self, rngs: list[np.random.Generator], features: int, fan_ins: np.ndarray) -> list[_Layer]:
        blocks = parse_blocks(self.recipe.dense_blocks, len(self.recipe.units), dense=True)
        units = zip(blocks, self.recipe.units, strict=True)
        parts = [(*part, width) for block, width in units for part in dense_parts(block)]
        layers: list[_Layer] = []
        rows = features
        for rest, activation, width in [*parts, ((), None, self.classes)]:
            kernels = []
            for rng, fan_in in zip(rngs, fan_ins, strict=True):
                limit = math.sqrt(6 / (fan_in + width))  # Glorot & Bengio 2010, Keras's default
                kernels.append(rng.uniform(-limit, limit, (rows, width)).astype(np.float32))
            kernel = np.stack(kernels, axis=0 if layers else 1)
            if not layers:
                kernel = (kernel if self.mask is None else kernel * self.mask.numpy()).reshape(features, -1)
            shape = (self.count, width)
            norms = tuple(
                tuple(tf.Variable(tf.fill(shape, float(value))) for value in (1, 0, 0, 1))
                for spec in rest
                if spec.word.kind == "norm"
            )
            layers.append(_Layer(tf.Variable(kernel), tf.Variable(tf.zeros(shape)), rest, norms, activation))
            rows, fan_ins = width, np.full(self.count, width)
        return layers

    def forward(
        self, inputs: tf.Tensor, kernels: list[tf.Tensor], noise: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Return the logits (B, K, C) float32 of inputs (B, D), which have the kernels' precision.

        noise is the seed (2,) of dropout in training, None for inference.
        """
        x = inputs
        for number, (layer, kernel) in enumerate(zip(self.layers, kernels, strict=True)):
            if number == 0:
                x = tf.reshape(tf.matmul(x, kernel), (-1, *layer.bias.shape))
            else:
                x = _product_by_head(x, kernel)
            if number < len(self.layers) - 1:
                x = self._apply_rest(layer, x, noise, number)
        return tf.cast(x, tf.float32) + self.layers[-1].bias

    def _apply_rest(self, layer: _Layer, x: tf.Tensor, noise: tf.Tensor | None, number: int) -> tf.Tensor:
        """Apply the bias, the activation and the rest of the block."""
        training, draws = noise is not None, []
        for position, spec in enumerate(layer.rest):
            if spec.word.kind == "dropout" and noise is not None:
                seed = noise + [0, 100 * number + position]
                draws.append(tf.random.stateless_uniform((tf.shape(x)[0], 1, x.shape[2]), seed))

        def apply(x: tf.Tensor, bias: tf.Tensor, *draws: tf.Tensor) -> tf.Tensor:
            x, drawn, norms = _activate(x + bias, layer.activation), iter(draws), iter(layer.norms)
            for spec in layer.rest:
                if spec.word.kind == "activation":
                    x = _activate(x, spec.word.name)
                elif spec.word.kind == "norm":
                    normed = _batch_norm(tf.cast(x, tf.float32), next(norms), training=training)
                    x = tf.cast(normed, x.dtype)
                elif training:
                    rates = self.dropout if spec.rate is None else np.full_like(self.dropout, spec.rate)
                    x = _dropout(x, next(drawn), rates)
            return x

        if training and not layer.norms:  # one fused kernel; batch norm has state and is not fused
            apply = tf.function(apply, jit_compile=True, autograph=False)
        return apply(x, tf.cast(layer.bias, x.dtype), *draws)

    def gather(self, rows: np.ndarray) -> tuple[tf.Tensor | np.ndarray, ...]:
        """Return what the update function takes, for training rows (steps, B).

        These are inputs (n, D), labels (n,), weights (n,), and the places (steps, B) of the rows in them.
        Inputs in memory are returned as they are; of mapped ones, the rows are read.
        """
        if isinstance(self.inputs, tf.Tensor):
            return self.inputs, self.labels, self.weights, rows
        which = rows.ravel()
        inputs = tf.cast(self.inputs[which], self.dtype)
        return inputs, self.labels[which], self.weights[which], np.arange(rows.size).reshape(rows.shape)

    def update_function(self, updates: int) -> Callable[..., None]:
        """Return a function of what gather returns; it makes one training step per row of places."""
        recipe = self.recipe
        schedule = SCHEDULES[recipe.lr_schedule](1.0, updates, warmup_updates(recipe.warmup, updates))
        kernels = [layer.kernel for layer in self.layers]
        others = [layer.bias for layer in self.layers]
        others += [weight for layer in self.layers for norm in layer.norms for weight in norm[:2]]
        rules = [RULES[recipe.optimizer](weight) for weight in (*kernels, *others)]
        rates = [self._spread(self.learning_rate, weight) for weight in (*kernels, *others)]
        decays = [self._spread(self.weight_decay, weight) for weight in kernels]
        decays += [np.zeros_like(rate) for rate in rates[len(kernels) :]]

        def step(inputs: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, rows: tf.Tensor) -> None:
            batch, labels, weights = (tf.gather(values, rows) for values in (inputs, labels, weights))
            noise = self.draws + tf.stack([0, 1000 * (self.step_number + 1)])
            with tf.GradientTape() as tape:
                cast_kernels = [tf.cast(kernel, self.dtype) for kernel in kernels]
                tape.watch(cast_kernels)
                loss = self._loss(self.forward(batch, cast_kernels, noise), labels, weights)
            gradients = tape.gradient(loss, [*cast_kernels, *others])
            gradients[0] = self._masked(gradients[0])
            factor = tf.cast(schedule(self.step_number), tf.float32)
            self.step_number.assign_add(1)
            number = tf.cast(self.step_number, tf.float32)
            for update, gradient, base_rate, decay in zip(rules, gradients, rates, decays, strict=True):
                rate = base_rate * factor
                update(gradient, rate, rate * decay, number)

        inputs_spec = tf.TensorSpec([None, self.inputs.shape[1]], self.dtype)
        specs = [inputs_spec, tf.TensorSpec([None], tf.int64), tf.TensorSpec([None])]

        @tf.function(input_signature=[*specs, tf.TensorSpec([None, None], tf.int64)], autograph=True)
        def run(inputs: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, batches: tf.Tensor) -> None:
            for rows in batches:
                step(inputs, labels, weights, rows)

        return run

    def _masked(self, gradient: tf.Tensor) -> tf.Tensor:
        """Return the first kernel's gradient, zero for the features that a head does not use."""
        if self.mask is None:
            return gradient
        shape = (-1, self.count, gradient.shape[1] // self.count)
        return tf.reshape(tf.reshape(gradient, shape) * tf.cast(self.mask, gradient.dtype), gradient.shape)

    def _spread(self, values: np.ndarray, weight: tf.Variable) -> np.ndarray:
        """Reshape values (K,), one per head, to broadcast against a weight of all heads."""
        if weight is self.layers[0].kernel:
            return np.repeat(values, weight.shape[1] // self.count)
        return values.reshape(-1, *([1] * (len(weight.shape) - 1)))

    def _loss(self, logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Return the sum over heads of the mean weighted cross-entropy with each head's label smoothing."""
        smoothing = self.label_smoothing[:, None]
        targets = tf.one_hot(labels, self.classes)[:, None] * (1 - smoothing) + smoothing / self.classes
        losses = tf.nn.softmax_cross_entropy_with_logits(tf.broadcast_to(targets, tf.shape(logits)), logits)
        return tf.reduce_sum(tf.reduce_mean(losses * weights[:, None], axis=0))

    def predict_logits(self, rows: Rows) -> np.ndarray:
        """Return the logits (n, K, C) of standardized rows (n, D), computed in float32."""
        kernels = [layer.kernel for layer in self.layers]
        return np.concatenate([self.forward(part, kernels).numpy() for _, part in blocks(rows, PREDICT_ROWS)])


def _activate(x: tf.Tensor, name: str | None) -> tf.Tensor:
    return getattr(tf.nn, name)(x) if name else x


def _product_by_head(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Return the product (B, K, G) of x (B, K, H) and kernel (K, H, G), head by head.

    With few outputs, the kernel's gradient is the diagonal of one product over all pairs of heads, which is
    faster than many small products.
    """
    heads, width, outputs = kernel.shape
    if outputs > CHEAP_OUTPUTS:
        return tf.einsum("bkh,khg->bkg", x, kernel)

    @tf.custom_gradient
    def product(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            left, right = tf.reshape(x, (-1, heads * width)), tf.reshape(upstream, (-1, heads * outputs))
            pairs = tf.reshape(tf.matmul(left, right, transpose_a=True), (heads, width, heads, outputs))
            diagonal = tf.stack([pairs[head, :, head] for head in range(heads)])
            return tf.einsum("bkg,khg->bkh", upstream, kernel), diagonal

        return tf.einsum("bkh,khg->bkg", x, kernel), gradient

    return product(x, kernel)


def _dropout(x: tf.Tensor, draws: tf.Tensor, rates: np.ndarray) -> tf.Tensor:
    """Return x (B, K, H) with dropout at each head's rate (K,); heads share the draws (B, 1, H)."""
    mask = tf.cast(draws >= rates[:, None], x.dtype)
    return x * mask * tf.cast(1 / (1 - rates[:, None]), x.dtype)


def _batch_norm(x: tf.Tensor, norm: Norm, *, training: bool) -> tf.Tensor:
    """Return x (B, K, H) after batch normalization; training also updates the moving moments."""
    scale, offset, moving_mean, moving_variance = norm
    if training:
        mean, variance = tf.nn.moments(x, axes=[0])
        for moving, batch in ((moving_mean, mean), (moving_variance, variance)):
            moving.assign(NORM_MOMENTUM * moving + (1 - NORM_MOMENTUM) * batch)
    else:
        mean, variance = moving_mean, moving_variance
    return (x - mean) * (tf.math.rsqrt(variance + NORM_EPSILON) * scale) + offset


def _adamw(weight: tf.Variable) -> Update:
    """Return Adam with decoupled decay; as in Keras, the bias correction is in the rate (Kingma & Ba)."""
    m, v = (tf.Variable(tf.zeros(weight.shape)) for _ in range(2))
    beta_1, beta_2 = ADAM_DECAYS

    @tf.function(jit_compile=True, autograph=False)  # fused into one in-place kernel
    def update(gradient: tf.Tensor, rates: tf.Tensor, decay: tf.Tensor, number: tf.Tensor) -> None:
        gradient = tf.cast(gradient, tf.float32)
        m.assign(beta_1 * m + (1 - beta_1) * gradient)
        v.assign(beta_2 * v + (1 - beta_2) * gradient**2)
        corrected = rates * (tf.sqrt(1 - beta_2**number) / (1 - beta_1**number))
        weight.assign(weight * (1 - decay) - corrected * m / (tf.sqrt(v) + ADAM_EPSILON))

    return update


def _sgd(weight: tf.Variable) -> Update:
    """Return SGD with Nesterov momentum as in Keras, with decoupled decay."""
    velocity = tf.Variable(tf.zeros(weight.shape))

    def update(gradient: tf.Tensor, rates: tf.Tensor, decay: tf.Tensor, number: tf.Tensor) -> None:
        gradient = tf.cast(gradient, tf.float32)
        weight.assign(weight * (1 - decay))
        velocity.assign(SGD_MOMENTUM * velocity - rates * gradient)
        weight.assign_add(SGD_MOMENTUM * velocity - rates * gradient)

    return update


RULES = {"adamw": _adamw, "sgd": _sgd}
