import { Failure } from '../plan/failure.ts';
import { asList, type ComposeMap, type ComposeValue, Literal, Tagged, untag } from './compose-yaml.ts';
import { EnvTextError, readEnvText, readRawEnvText } from './env-text.ts';
import type { Lookup } from './interpolate.ts';
import { invalidCompose, type SourcePlace, type StackSources } from './stack-sources.ts';

/** The folder, the variables and the place of a service in its file. */
interface ServiceScope {
  files: StackSources;
  /** The folder of relative paths. */
  base: string;
  lookup: Lookup;
  projectLookup: Lookup;
  warn(path: string): (name: string, line: number) => void;
  /** Stores a copy of an env file next to the others of its folder, and returns its path. */
  copyEnv(path: string, values: ReadonlyMap<string, string>): string;
  /** Copies what an extended service needs of its file, and returns the copy's path. */
  copyExtended(path: string, service: string, place: SourcePlace): Promise<string>;
}

/** Replaces the files that a service names by copies, and the variables that it inherits by their values. */
export async function rewriteService(
  service: ComposeMap,
  place: (key: string) => SourcePlace,
  scope: ServiceScope,
): Promise<void> {
  const extended = untag(service.get('extends') ?? null);
  if (extended instanceof Map && (extended.get('file') ?? null) !== null) {
    const by = place('extends');
    const file = scope.files.localPath(extended.get('file'), scope.base, by);
    const name = extended.get('service');
    if (typeof name !== 'string') throw invalidCompose(by, 'The service is not a text');
    extended.set('file', await scope.copyExtended(file, name, by));
  }
  const { base, files, lookup, projectLookup } = scope;
  inheritVariables(service, 'environment', name => lookup(name) ?? projectLookup(name), projectLookup);
  const build = untag(service.get('build') ?? null);
  if (build instanceof Map) inheritVariables(build, 'args', projectLookup, projectLookup);

  const own = listVariables(service.get('environment'));
  const find: Lookup = name => projectLookup(name) ?? own.get(name);
  await rewriteFiles(service, 'env_file', place('env_file'), async (entry, by, earlier) => {
    const item: ComposeMap = entry instanceof Map ? entry : new Map([['path', entry]]);
    const unknown = [...item.keys()].find(key => !['path', 'required', 'format'].includes(key));
    if (unknown !== undefined) throw invalidCompose(by, `The key "${unknown}" is not known`);
    const format = item.get('format') ?? null;
    if (format !== null && format !== 'raw') throw invalidCompose(by, 'The format is not known. Only "raw" is');
    const path = files.localPath(item.get('path'), base, by);
    const text = await files.text(path, by);
    if (text === undefined) {
      if ([false, 'false'].includes(item.get('required') as boolean)) return undefined;
      throw invalidCompose(by, `The env file ${path} does not exist`);
    }
    const values =
      format === 'raw'
        ? reportEnvError(path, () => readRawEnvText(text, find))
        : parseEnv(text, path, find, scope.warn(path), earlier);
    return { path, values };
  });
  await rewriteFiles(service, 'label_file', place('label_file'), async (entry, by, earlier) => {
    const path = files.localPath(entry, base, by);
    const text = await files.text(path, by);
    if (text === undefined) throw invalidCompose(by, `The label file ${path} does not exist`);
    return { path, values: parseEnv(text, path, name => earlier.get(name), scope.warn(path)) };
  });

  type Read = (
    entry: ComposeValue,
    by: SourcePlace,
    earlier: ReadonlyMap<string, string>,
  ) => Promise<{ path: string; values: Map<string, string> } | undefined>;

  async function rewriteFiles(map: ComposeMap, key: string, by: SourcePlace, read: Read): Promise<void> {
    const value = map.get(key);
    if (value === undefined || value === null) return;
    const copies: ComposeValue[] = [];
    const earlier = new Map<string, string>();
    for (const entry of asList(value)) {
      const found = await read(entry, by, earlier);
      if (!found) continue;
      copies.push(scope.copyEnv(found.path, found.values));
      for (const [name, one] of found.values) earlier.set(name, one);
    }
    map.set(key, value instanceof Tagged ? new Tagged(value.tag, copies) : copies);
  }
}

/** A variable without a value gets the one of the project, which compose will not know. A list sees those of its file too. */
function inheritVariables(map: ComposeMap, key: string, lookup: Lookup, projectLookup: Lookup): void {
  const variables = untag(map.get(key) ?? null);
  if (variables instanceof Map) {
    for (const [name, one] of variables) if (one === null) variables.set(name, projectLookup(name) ?? null);
  } else if (Array.isArray(variables)) {
    for (const [index, one] of variables.entries()) {
      const value = typeof one === 'string' && !one.includes('=') ? lookup(one) : undefined;
      if (value !== undefined) variables[index] = `${String(one)}=${value}`;
    }
  }
}

function listVariables(environment: ComposeValue | undefined): Map<string, string> {
  const variables = untag(environment ?? null);
  if (variables instanceof Map)
    return new Map(
      [...variables].flatMap(([name, one]) => {
        const value = one instanceof Literal ? one.source : one;
        return typeof value === 'string' ? [[name, value] as const] : [];
      }),
    );
  return new Map(
    asList(variables).flatMap(one => {
      const [, name, value] = typeof one === 'string' ? (/^([^=]+)=([\s\S]*)$/.exec(one) ?? []) : [];
      return name === undefined || value === undefined ? [] : [[name, value] as const];
    }),
  );
}

/** Parses an env file as {@link readEnvText} does. Throws {@link Failure} `env-file-invalid` with the line, without its text. */
export function parseEnv(
  text: string,
  path: string,
  lookup: Lookup,
  onChanged: (name: string, line: number) => void,
  earlier?: ReadonlyMap<string, string>,
): Map<string, string> {
  return reportEnvError(path, () => readEnvText(text, lookup, onChanged, earlier));
}

function reportEnvError<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof EnvTextError)) throw error;
    throw new Failure(
      'env-file-invalid',
      `${path}:${error.line}: ${error.message}.`,
      'Correct the line. Nothing was started.',
    );
  }
}
