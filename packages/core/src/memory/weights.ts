import { layerShapes } from '../models/bind.js';
import type { Blueprint, LayerMap } from '../models/family.js';

/** A weight as the device holds it: the parts of a fused matrix are weights of their own. */
export interface WeightOutline {
  /** Tensor of the checkpoint that it is, or is a part of. */
  readonly source: string;
  readonly shape: readonly number[];
  /** Numbers in it. */
  readonly size: number;
}

/** Every weight of a model once, tied embeddings too. */
export function weightOutlines({ spec, layout }: Blueprint): readonly WeightOutline[] {
  const { vocabSize, hiddenSize } = spec;
  const outlines = [
    outline(layout.embed, [vocabSize, hiddenSize]),
    outline(layout.norm, [hiddenSize]),
  ];
  if (!spec.tiedEmbeddings) outlines.push(outline(layout.lmHead, [vocabSize, hiddenSize]));
  const shapes = layerShapes(spec);
  for (let index = 0; index < spec.layers; index++) {
    const places = Object.entries(layout.layer(index)) as [
      keyof LayerMap<unknown>,
      string | { readonly name: string },
    ][];
    for (const [key, place] of places) {
      outlines.push(outline(typeof place === 'string' ? place : place.name, shapes[key]));
    }
  }
  return outlines;
}

/** Parameters of a model; a matrix that two layers share counts once. */
export function countParameters(blueprint: Blueprint): number {
  return weightOutlines(blueprint).reduce((sum, { size }) => sum + size, 0);
}

function outline(source: string, shape: readonly number[]): WeightOutline {
  return { source, shape, size: shape.reduce((product, extent) => product * extent, 1) };
}
