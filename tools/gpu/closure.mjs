// Which folders of node_modules a set of packages needs at run time, found by following pnpm's symlinks.
//
// pnpm keeps every package once, at node_modules/.pnpm/<id>/node_modules/<name>, beside symlinks to what it depends on.
// The closure of some packages is therefore a set of <id> folders, which can be copied as they are, links included.
import { existsSync, lstatSync, readdirSync, realpathSync } from 'node:fs';
import { join, relative, sep } from 'node:path';

/** Needed to build or check the repository, never to run it. They are most of the bytes. */
const BUILD_ONLY = new Set([
  'cmake-js',
  'node-addon-api',
  'tsup',
  'typescript',
  'esbuild',
  'jiti',
  'rollup',
]);

const buildOnly = (name) => BUILD_ONLY.has(name) || /^@(types|typescript|esbuild)\//.test(name);

/** Names in a node_modules folder, scopes opened. */
function names(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => !name.startsWith('.'))
    .flatMap((name) =>
      name.startsWith('@')
        ? readdirSync(join(folder, name)).map((sub) => `${name}/${sub}`)
        : [name],
    );
}

/**
 * @param {string} root the repository
 * @param {string[]} packages folders of the workspace's packages, relative to root
 * @param {string[]} rootNames what is wanted of the repository's own dependencies
 * @returns {{ stores: string[], links: string[] }} folders of .pnpm, and the symlinks that lead there, relative to root
 */
export function closure(root, packages, rootNames) {
  const store = join(root, 'node_modules', '.pnpm') + sep;
  const stores = new Set();
  const links = [];
  const visit = (link) => {
    const real = realpathSync(link);
    links.push(relative(root, link));
    if (!real.startsWith(store)) return; // a package of the workspace
    const id = real.slice(store.length).split(sep)[0];
    if (stores.has(id)) return;
    stores.add(id);
    const beside = join(store, id, 'node_modules');
    for (const name of names(beside)) {
      const path = join(beside, name);
      if (lstatSync(path).isSymbolicLink() && !buildOnly(name)) visit(path);
    }
  };
  for (const name of rootNames) visit(join(root, 'node_modules', name));
  for (const folder of packages) {
    const modules = join(root, folder, 'node_modules');
    for (const name of names(modules)) if (!buildOnly(name)) visit(join(modules, name));
  }
  return { stores: [...stores].sort(), links };
}
