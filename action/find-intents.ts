import { createHash } from 'node:crypto';
import { matchesGlob } from 'node:path';
import type { IntentFile, LoadedIntent } from '../intents/load.ts';
import { suggestNearest } from '../intents/suggest.ts';
import { MAX_SHIPPED_BYTES, type ShippedFile } from '../protocol/command.ts';
import type { FileTree, TreeEntry } from './git-tree.ts';
import { actionRefusals } from './refusals.ts';
import { describeStandIn } from './stand-in.ts';

const MAX_FILES = 5000;

/** Finds the files that the input "intent" names: names under `intentsDir`, paths or globs. Throws `Refused` `intent-not-found`. */
export async function findIntents(wanted: string[], intentsDir: string, tree: FileTree): Promise<IntentFile[]> {
  const entries = (await tree.list()).filter(({ kind }) => kind === 'file').map(({ path }) => path);
  const dir = intentsDir.replace(/^\.\//, '').replace(/\/+$/, '');
  const chosen = new Set<string>();
  for (const name of wanted) {
    const found = match(name.replace(/^\.\//, ''), dir, entries);
    if (found.length === 0) {
      const known = entries
        .filter(path => path.startsWith(`${dir}/`))
        .map(path => path.slice(dir.length + 1).replace(/\.ya?ml$/, ''));
      throw actionRefusals.intentNotFound(name, suggestNearest(name, known), dir);
    }
    for (const path of found) chosen.add(path);
  }
  const paths = [...chosen];
  const texts = await tree.read(paths);
  return paths.map((file, index) => ({ file, text: texts[index]?.toString('utf8') ?? '' }));
}

function match(name: string, dir: string, entries: string[]): string[] {
  const exact = [`${dir}/${name}`, `${dir}/${name}.yaml`, `${dir}/${name}.yml`, name].find(path =>
    entries.includes(path),
  );
  if (exact !== undefined) return [exact];
  if (!/[*?[{]/.test(name)) return [];
  return entries.filter(path => matchesGlob(path, name) || matchesGlob(path, `${dir}/${name}`)).sort();
}

/** Collects the files that the rollouts ship: regular files under `source_dir` at the commit. Throws `Refused`. */
export async function collectFiles(loaded: LoadedIntent[], tree: FileTree, sha: string): Promise<ShippedFile[]> {
  const shipped: ShippedFile[] = [];
  let bytes = 0;
  const done = new Set<string>();
  for (const { intent } of loaded) {
    if (intent.action !== 'rollout' || intent.source_dir === undefined) continue;
    const dir = intent.source_dir;
    if (done.has(`${intent.stack}:${dir}`)) continue;
    done.add(`${intent.stack}:${dir}`);
    const entries = (await tree.list()).filter(({ path }) => path.startsWith(`${dir}/`));
    if (entries.length === 0) throw actionRefusals.sourceDirMissing(dir, sha);
    if (shipped.length + entries.length > MAX_FILES) throw actionRefusals.filesTooLarge(dir, `${MAX_FILES} files`);
    for (const entry of entries) checkEntry(entry, dir);
    for (const [index, content] of (await tree.read(entries.map(({ path }) => path))).entries()) {
      const entry = entries[index];
      const standIn = describeStandIn(content);
      if (standIn !== undefined) throw actionRefusals.fileNotShippable(entry?.path ?? '', standIn);
      bytes += content.length;
      if (bytes > MAX_SHIPPED_BYTES) throw actionRefusals.filesTooLarge(dir, `${MAX_SHIPPED_BYTES / 1024 / 1024} MiB`);
      shipped.push({
        stack: intent.stack,
        path: entry?.path.slice(dir.length + 1) ?? '',
        mode: entry?.executable ? 0o755 : 0o644,
        sha256: createHash('sha256').update(content).digest('hex'),
        content: content.toString('base64'),
      });
    }
  }
  return shipped;
}

function checkEntry({ path, kind }: TreeEntry, dir: string): void {
  const inside = path.slice(dir.length + 1);
  if (kind !== 'file')
    throw actionRefusals.fileNotShippable(path, kind === 'link' ? 'it is a symbolic link' : 'it is a submodule');
  if ([...inside].some(char => char < ' ' || char === '\u007f' || char === '\\' || char === '\ufffd')) {
    throw actionRefusals.fileNotShippable(
      path,
      'its name contains a control character, a backslash or bytes that are not UTF-8',
    );
  }
  if (inside.length > 1024) throw actionRefusals.fileNotShippable(path, 'its path is longer than 1024 characters');
}
