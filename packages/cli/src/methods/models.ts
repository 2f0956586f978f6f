import { modelFamilies, type Method, type ModelSpec, type RopeScaling } from '@accel/core';

/** A family of models, and those in it that a method does not run on. */
export interface FamilySupport {
  readonly family: string;
  /** Why some of them are refused; empty when the method runs on all. */
  readonly refused: readonly {
    /** What they have in common. */
    readonly models: string;
    readonly why: string;
  }[];
}

/** One model of every kind of rotary scaling: the way in which models of a family differ for a method. */
const ropes: { readonly [K in RopeScaling['kind']]: Extract<RopeScaling, { kind: K }> } = {
  default: { kind: 'default' },
  linear: { kind: 'linear', factor: 4 },
  dynamic: { kind: 'dynamic', factor: 4, originalContext: 4096 },
  llama3: {
    kind: 'llama3',
    factor: 8,
    lowFrequencyFactor: 1,
    highFrequencyFactor: 4,
    originalContext: 8192,
  },
  yarn: {
    kind: 'yarn',
    factor: 4,
    originalContext: 4096,
    betaFast: 32,
    betaSlow: 1,
    attentionFactor: 1,
    truncate: true,
  },
  factors: { kind: 'factors', factors: new Array<number>(64).fill(1) },
};

/** Asks a method about models of every family that can be loaded. Families it refuses altogether are left out. */
export function familiesOf(method: Method): FamilySupport[] {
  const kinds = Object.values(ropes);
  return modelFamilies.flatMap((family) => {
    const refused = kinds.flatMap((rope) => {
      const why = method.supports?.(example(family, rope));
      return why === undefined ? [] : [{ models: `${rope.kind} rope scaling`, why }];
    });
    return refused.length === kinds.length ? [] : [{ family, refused }];
  });
}

/** A model of 8B shape. */
function example(architecture: ModelSpec['architecture'], rope: RopeScaling): ModelSpec {
  return {
    architecture,
    name: `a model with ${rope.kind} rope scaling`,
    layers: 32,
    heads: 32,
    kvHeads: 8,
    headDim: 128,
    hiddenSize: 4096,
    intermediateSize: 14336,
    vocabSize: 128256,
    contextLength: 32768,
    eosTokenIds: [],
    ropeTheta: 500000,
    rope,
    rotaryDim: 128,
    ropeInterleaved: false,
    normEps: 1e-5,
    attentionScale: 128 ** -0.5,
    tiedEmbeddings: false,
    dtype: 'bfloat16',
  };
}
