import { posix } from 'node:path';
import { suggest } from '@accel/core';
import { argumentError } from '../errors.js';
import {
  checkEssays,
  checkHotpot,
  checkLongBench,
  checkPunkt,
  checkSquad,
  checkWords,
} from './shapes.js';

/** Data sets that `accel data` knows. */
export type DataName =
  'squad' | 'hotpotqa' | 'longbench' | 'essays' | 'wonderwords' | 'english-words' | 'punkt';

/** Where a file of a set can be downloaded. */
export interface DataOrigin {
  /** An http(s) address; or `datasets/<org>/<name>/<file>` for one on the Hugging Face Hub. */
  readonly from: string;
  /** SHA-256 of what comes; absent where it is not known beforehand (the Hub tells its own). */
  readonly sha256?: string;
  /** Bytes of what comes. */
  readonly bytes?: number;
}

/** What is known about a data set. */
export interface DataSet {
  readonly name: DataName;
  /** What it is for. */
  readonly purpose: string;
  /** Terms of the data, as its makers state them. */
  readonly licence: string;
  readonly homepage: string;
  /** Empty: nobody gives it away in one piece; it can only be imported. */
  readonly origins: readonly DataOrigin[];
  /** What a benchmark reads: a file of the set's folder, or `.` for the folder. */
  readonly entry: string;
  /** Under which name a file of an archive or folder is kept; undefined: it is left out. */
  readonly member: (path: string) => string | undefined;
  /** Finds out whether a folder holds the set. @throws AccelError ERR_ACCEL_FILE that says what is wrong with it */
  readonly check: (folder: string) => Promise<void>;
}

const NLTK_DATA =
  'https://raw.githubusercontent.com/nltk/nltk_data/4f15a3d89eefe9748ec1c05be495d91289197155';
const WONDERWORDS =
  'https://raw.githubusercontent.com/mrmaxguns/wonderwordsmodule/5dfa455554e7c225a59c865d706c4293ca2c132e/wonderwords/assets';
const ENGLISH_WORDS =
  'https://raw.githubusercontent.com/dwyl/english-words/20f5cc9b3f0ccc8ce45d814c532b7c2031bba31c';

/** Every set, in the order of `accel data list`. Addresses name commits where a repository has them. */
export const DATA_SETS: readonly DataSet[] = [
  {
    name: 'squad',
    purpose: 'RULER qa_1 (SQuAD 2.0 dev)',
    licence: 'CC BY-SA 4.0',
    homepage: 'https://rajpurkar.github.io/SQuAD-explorer/',
    origins: [
      {
        from: 'https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v2.0.json',
        sha256: '80a5225e94905956a6446d296ca1093975c4d3b3260f1d6c8f68bc2ab77182d8',
        bytes: 4_370_528,
      },
    ],
    entry: 'dev-v2.0.json',
    member: named(/^(dev-v2\.0|squad)\.json$/, 'dev-v2.0.json'),
    check: checkSquad('dev-v2.0.json'),
  },
  {
    name: 'hotpotqa',
    purpose: 'RULER qa_2 (HotpotQA dev)',
    licence: 'CC BY-SA 4.0',
    homepage: 'https://hotpotqa.github.io/',
    origins: [
      {
        from: 'http://curtis.ml.cmu.edu/datasets/hotpot/hotpot_dev_distractor_v1.json',
        sha256: '4e9ecb5c8d3b719f624d66b60f8d56bf227f03914f5f0753d6fa1b359d7104ea',
        bytes: 46_320_117,
      },
    ],
    entry: 'hotpot_dev_distractor_v1.json',
    member: named(/^(hotpot_dev_distractor_v1|hotpotqa)\.json$/, 'hotpot_dev_distractor_v1.json'),
    check: checkHotpot('hotpot_dev_distractor_v1.json'),
  },
  {
    name: 'longbench',
    purpose: 'LongBench, LongBench-E',
    licence: 'MIT; texts: various',
    homepage: 'https://github.com/THUDM/LongBench',
    origins: [{ from: 'datasets/THUDM/LongBench/data.zip' }],
    entry: '.',
    member: (path) =>
      /^[\w-]+\.jsonl$/.test(posix.basename(path)) ? posix.basename(path) : undefined,
    check: checkLongBench,
  },
  {
    name: 'essays',
    purpose: 'haystack of RULER and NIAH',
    licence: '© Paul Graham',
    homepage: 'https://github.com/NVIDIA/RULER/tree/main/scripts/data/synthetic/json',
    origins: [],
    entry: 'PaulGrahamEssays.json',
    member: named(/^PaulGrahamEssays\.json$/, 'PaulGrahamEssays.json'),
    check: checkEssays('PaulGrahamEssays.json'),
  },
  {
    name: 'wonderwords',
    purpose: 'words of RULER niah, cwe',
    licence: 'MIT',
    homepage: 'https://github.com/mrmaxguns/wonderwordsmodule',
    origins: [
      {
        from: `${WONDERWORDS}/nounlist.txt`,
        sha256: '8d88b3ebc2e2969ed92ebe49cdb0c8a87c2ad3b27493d7afdff608f2e51c5bc9',
        bytes: 54_752,
      },
      {
        from: `${WONDERWORDS}/adjectivelist.txt`,
        sha256: '66814d46b7e292c83e839d12fe2fa083c8f66779b14b294e1be4e1342c5d4131',
        bytes: 7403,
      },
      {
        from: `${WONDERWORDS}/verblist.txt`,
        sha256: '9fbf5e4e69b8869aebd88e6d545312ff9f878a747327ede5f6dbbba5c27b08ad',
        bytes: 6967,
      },
    ],
    entry: '.',
    member: (path) => /(?:noun|adjective|verb)list\.txt$/.exec(posix.basename(path))?.[0],
    check: checkWords(['nounlist.txt', 'adjectivelist.txt', 'verblist.txt'], 100),
  },
  {
    name: 'english-words',
    purpose: 'words of RULER cwe from 128K',
    licence: 'Unlicense',
    homepage: 'https://github.com/dwyl/english-words',
    origins: [{ from: `${ENGLISH_WORDS}/words_alpha.zip` }],
    entry: 'words_alpha.txt',
    member: named(/^words_alpha\.txt$/, 'words_alpha.txt'),
    check: checkWords(['words_alpha.txt'], 10_000),
  },
  {
    name: 'punkt',
    purpose: 'sentences of RULER essays',
    licence: 'none stated by NLTK',
    homepage: 'https://github.com/nltk/nltk_data',
    origins: [
      {
        from: `${NLTK_DATA}/packages/tokenizers/punkt_tab.zip`,
        sha256: 'e57f64187974277726a3417ca6f181ec5403676c717672eef6a748a7b20e0106',
      },
    ],
    entry: 'punkt-english.json',
    member: (path) =>
      posix.basename(path) === 'punkt-english.json'
        ? 'punkt-english.json'
        : /(?:^|\/)english\/([a-z_]+\.(?:txt|tab))$/.exec(path)?.[1],
    check: checkPunkt('punkt-english.json'),
  },
];

/** Finds a set by its name. @throws AccelError ERR_ACCEL_ARGUMENT with the names that there are */
export function dataSet(name: string): DataSet {
  const found = DATA_SETS.find((set) => set.name === name);
  if (found !== undefined) return found;
  const names = DATA_SETS.map((set) => set.name);
  throw argumentError(
    `There is no data set "${name}".${suggest(name, names)} Known: ${names.join(', ')}.`,
  );
}

/** Keeps one file, under one name. */
function named(pattern: RegExp, kept: string): (path: string) => string | undefined {
  return (path) => (pattern.test(posix.basename(path)) ? kept : undefined);
}
