import { basename, dirname, join } from 'node:path';
import { Failure } from '../plan/failure.ts';
import { type ComposeMap, type ComposeValue, parseComposeFile, Tagged, writeComposeFile } from './compose-yaml.ts';
import { EnvTextError, readEnvText, readRawEnvText, writeEnvText } from './env-text.ts';
import type { Lookup } from './interpolate.ts';
import { absolutePath, isRemote, StackSources } from './stack-sources.ts';

/** In compose's search order: the first one, and the first override next to it. */
const COMPOSE_FILES = ['compose.yaml', 'compose.yml', 'docker-compose.yml', 'docker-compose.yaml'];
const OVERRIDES = [
  'compose.override.yml',
  'compose.override.yaml',
  'docker-compose.override.yml',
  'docker-compose.override.yaml',
];

/** Variables of compose in `.env` that change nothing here. Others of its own are refused: COMPOSE_FILE and a few are followed. */
const IGNORED =
  /^COMPOSE_(ANSI|STATUS_STDOUT|PARALLEL_LIMIT|IGNORE_ORPHANS|REMOVE_ORPHANS|MENU|BAKE|HTTP_TIMEOUT|PROGRESS|CONVERT_WINDOWS_PATHS)$/;
const FOLLOWED = ['COMPOSE_FILE', 'COMPOSE_PROFILES', 'COMPOSE_PROJECT_NAME'];

const MAX_INCLUDES = 20;

/** The sources of a stack's config as compose gets them: copies that name nothing but one another. */
export interface ResolvedSources {
  /** The copies by their path below the copy of the root folder `/`. */
  copies: Map<string, string>;
  /** The main files' copies, in order. */
  files: string[];
  /** Absolute paths of the sources that were read, compose files first. */
  sources: Map<string, string>;
  /** Secrets that the config takes from variables, by the names that stand in for the variables. */
  values: Map<string, { text: string } | { unset: string }>;
  profiles: string[];
  /** The project name that the files or `.env` give, with its place; undefined if none does. */
  name: { text: string; at: string } | undefined;
  /** One line for each variable that nothing sets. */
  warnings: string[];
}

/** The variables of one file, and the folder of its relative paths. */
interface FileContext {
  base: string;
  lookup: Lookup;
  depth: number;
  /** Distinguishes contexts: the same file has other values in another one. */
  id: string;
  /** An extended file: only its services count. */
  isExtended: boolean;
}

/**
 * Follows everything that compose would read for a stack, within the stack's folder: its files, `include`, `extends`,
 * `env_file`, `label_file` and `.env`. Throws {@link Failure} with the file, the line and the key.
 */
export function resolveSources(request: {
  dir: string;
  compose?: string | undefined;
  overlay: Readonly<Record<string, string | null>>;
}): Promise<ResolvedSources> {
  return new Resolver(new StackSources(request.dir, request.overlay)).resolve(request.compose);
}

class Resolver {
  readonly #files: StackSources;
  readonly #copies = new Map<string, string>();
  readonly #copyOf = new Map<string, Promise<string>>();
  readonly #values: ResolvedSources['values'] = new Map();
  readonly #warnings = new Set<string>();
  #name: ResolvedSources['name'];
  /** Env files of services see the variables of the project, also in an included file. */
  #projectLookup: Lookup = () => undefined;

  constructor(files: StackSources) {
    this.#files = files;
  }

  async resolve(named: string | undefined): Promise<ResolvedSources> {
    const { dir } = this.#files;
    const env = await this.#readProjectEnv(dir, () => undefined);
    this.#projectLookup = name => env.get(name);
    const files = await this.#listMainFiles(named, env);
    const context: FileContext = { base: dir, lookup: this.#projectLookup, depth: 0, id: '', isExtended: false };
    const copies: string[] = [];
    for (const file of files) copies.push(await this.#copyFile(file, file, context));
    const projectName = env.get('COMPOSE_PROJECT_NAME');
    if (projectName !== undefined && projectName !== '') this.#name = { text: projectName, at: `${dir}/.env` };
    return {
      copies: this.#copies,
      files: copies,
      sources: this.#files.read,
      values: this.#values,
      profiles: (env.get('COMPOSE_PROFILES') ?? '')
        .split(',')
        .map(one => one.trim())
        .filter(Boolean),
      name: this.#name,
      warnings: [...this.#warnings],
    };
  }

  async #readProjectEnv(dir: string, parent: Lookup): Promise<Map<string, string>> {
    const path = join(dir, '.env');
    const text = await this.#files.text(path, path);
    if (text === undefined) return new Map();
    const values = this.#parseEnv(text, path, parent);
    for (const name of values.keys()) {
      if (!name.startsWith('COMPOSE_') || FOLLOWED.includes(name) || IGNORED.test(name)) continue;
      throw new Failure(
        'compose-not-allowed',
        `${path}:${lineOf(text, name)}: The variable ${name} changes how compose works, and is not allowed.`,
        `Remove ${name}. No grant allows it. Nothing was started.`,
      );
    }
    return values;
  }

  async #listMainFiles(named: string | undefined, env: ReadonlyMap<string, string>): Promise<string[]> {
    const { dir } = this.#files;
    const listed = env.get('COMPOSE_FILE');
    if (named !== undefined) return [named];
    if (listed !== undefined && listed !== '')
      return listed.split(':').map(path => this.#files.locate(absolutePath(path, dir), `${dir}/.env: COMPOSE_FILE`));
    for (const name of COMPOSE_FILES) {
      const file = join(dir, name);
      if ((await this.#files.text(file, file)) === undefined) continue;
      for (const override of OVERRIDES) {
        const path = join(dir, override);
        if ((await this.#files.text(path, path)) !== undefined) return [file, path];
      }
      return [file];
    }
    throw new Failure(
      'compose-file-missing',
      `${dir} holds no compose file.`,
      `Put ${dir}/compose.yaml there, or ship it with "source_dir".`,
    );
  }

  /** Returns the path of the file's copy. `by` names the place that names the file. */
  #copyFile(file: string, by: string, context: FileContext): Promise<string> {
    const key = JSON.stringify([file, context.base, context.id, context.isExtended]);
    const known = this.#copyOf.get(key);
    if (known) return known;
    if (context.depth > MAX_INCLUDES || this.#copyOf.size > 2 * MAX_INCLUDES ** 2)
      throw invalid(by, 'The compose files include or extend one another without end');
    const made = this.#makeCopy(file, by, context, this.#copyOf.size);
    this.#copyOf.set(key, made);
    return made;
  }

  async #makeCopy(file: string, by: string, context: FileContext, number: number): Promise<string> {
    const text = await this.#files.text(file, by);
    if (text === undefined) throw invalid(by, `The file ${file} does not exist`);
    // Relative paths of an extended file start at its folder: the copy is in the copy of that folder.
    const copy = join(dirname(file), `.${number}.${basename(file)}`);
    const config = parseComposeFile(text, file, context.lookup, name =>
      this.#warnings.add(`${file}: the variable ${name} is not set, and is empty.`),
    );
    const place = (keys: string) => `${file}${suffix(lineOf(text, keys.split('.').at(-1) ?? ''))}: ${keys}`;
    if (context.isExtended) config.delete('include');
    else await this.#rewriteIncludes(config, place, context);
    if (context.depth === 0 && typeof config.get('name') === 'string')
      this.#name = { text: String(config.get('name')), at: `${file}:${lineOf(text, 'name')}` };
    for (const [name, service] of entries(config.get('services')))
      await this.#rewriteService(service, key => place(`services.${name}.${key}`), context);
    for (const kind of ['configs', 'secrets'] as const)
      for (const [, one] of entries(config.get(kind))) this.#rewriteValue(kind, one, context);
    this.#copies.set(copy, writeComposeFile(config));
    return copy;
  }

  async #rewriteIncludes(config: ComposeMap, place: (keys: string) => string, context: FileContext): Promise<void> {
    const include = config.get('include');
    if (include === undefined || include === null) return;
    const by = place('include');
    const rewritten: ComposeValue[] = [];
    for (const entry of asList(include)) {
      const item: ComposeMap = entry instanceof Map ? entry : new Map([['path', entry]]);
      const unknown = [...item.keys()].find(key => !['path', 'project_directory', 'env_file'].includes(key));
      if (unknown !== undefined) throw invalid(by, `The key "${unknown}" is not known`);
      const paths = asList(item.get('path') ?? null).map(path => this.#localPath(path, context.base, by));
      const [first] = paths;
      if (first === undefined) throw invalid(by, 'An entry names no file');
      const folder = item.get('project_directory') ?? null;
      const base = folder === null ? dirname(first) : this.#localPath(folder, context.base, by);
      const { lookup, id } = await this.#includeVariables(item.get('env_file') ?? null, base, by, context);
      const inner: FileContext = { base, lookup, id, depth: context.depth + 1, isExtended: false };
      const copies: string[] = [];
      for (const path of paths) copies.push(await this.#copyFile(path, by, inner));
      rewritten.push(
        new Map<string, ComposeValue>([
          ['path', copies.map(atRoot)],
          ['project_directory', atRoot(base)],
          ['env_file', '/dev/null'],
        ]),
      );
    }
    config.set('include', rewritten);
  }

  /** The variables of an included file: those of its parent come first. */
  async #includeVariables(
    named: ComposeValue,
    base: string,
    by: string,
    { lookup, id, base: parentBase }: FileContext,
  ): Promise<Pick<FileContext, 'lookup' | 'id'>> {
    const own = new Map<string, string>();
    if (named === null) {
      for (const [name, value] of await this.#readProjectEnv(base, lookup)) own.set(name, value);
    } else {
      for (const entry of asList(named)) {
        const path = this.#localPath(entry, parentBase, by);
        const text = await this.#files.text(path, by);
        if (text === undefined) throw invalid(by, `The env file ${path} does not exist`);
        for (const [name, value] of this.#parseEnv(text, path, lookup)) own.set(name, value);
      }
    }
    return { lookup: name => lookup(name) ?? own.get(name), id: JSON.stringify([id, [...own]]) };
  }

  async #rewriteService(value: ComposeValue, place: (key: string) => string, context: FileContext): Promise<void> {
    const service = untag(value);
    if (!(service instanceof Map)) return;
    const found = untag(service.get('extends') ?? null);
    if (found instanceof Map && found.get('file') !== undefined && found.get('file') !== null) {
      const by = place('extends');
      const file = this.#localPath(found.get('file') ?? null, context.base, by);
      const inner = { ...context, base: dirname(file), depth: context.depth + 1, isExtended: true };
      found.set('file', atRoot(await this.#copyFile(file, by, inner)));
    }
    await this.#rewriteEnvFiles(service, place('env_file'), context);
    await this.#rewriteLabelFiles(service, place('label_file'), context);
    const environment = untag(service.get('environment') ?? null);
    // A variable without a value gets the one of the project, which compose does not know.
    if (environment instanceof Map) {
      for (const [name, one] of environment) if (one === null) environment.set(name, context.lookup(name) ?? null);
    } else if (Array.isArray(environment)) {
      for (const [index, one] of environment.entries()) {
        const inherited = typeof one === 'string' && !one.includes('=') ? context.lookup(one) : undefined;
        if (inherited !== undefined) environment[index] = `${String(one)}=${inherited}`;
      }
    }
  }

  async #rewriteEnvFiles(service: ComposeMap, by: string, context: FileContext): Promise<void> {
    const value = service.get('env_file');
    if (value === undefined || value === null) return;
    const copies: ComposeValue[] = [];
    for (const entry of asList(untag(value))) {
      const item: ComposeMap = entry instanceof Map ? entry : new Map([['path', entry]]);
      const unknown = [...item.keys()].find(key => !['path', 'required', 'format'].includes(key));
      if (unknown !== undefined) throw invalid(by, `The key "${unknown}" is not known`);
      const format = item.get('format') ?? null;
      if (format !== null && format !== 'raw') throw invalid(by, 'The format is not known. Only "raw" is');
      const path = this.#localPath(item.get('path') ?? null, context.base, by);
      const text = await this.#files.text(path, by);
      if (text === undefined) {
        if (isFalse(item.get('required'))) continue;
        throw invalid(by, `The env file ${path} does not exist`);
      }
      copies.push(
        this.#copyEnv(
          path,
          format === 'raw' ? this.#parseRawEnv(text, path) : this.#parseEnv(text, path, this.#projectLookup),
        ),
      );
    }
    service.set('env_file', value instanceof Tagged ? new Tagged(value.tag, copies) : copies);
  }

  async #rewriteLabelFiles(service: ComposeMap, by: string, context: FileContext): Promise<void> {
    const value = service.get('label_file');
    if (value === undefined || value === null) return;
    const copies: ComposeValue[] = [];
    for (const entry of asList(untag(value))) {
      const path = this.#localPath(entry, context.base, by);
      const text = await this.#files.text(path, by);
      if (text === undefined) throw invalid(by, `The label file ${path} does not exist`);
      copies.push(this.#copyEnv(path, this.#parseEnv(text, path, context.lookup)));
    }
    service.set('label_file', value instanceof Tagged ? new Tagged(value.tag, copies) : copies);
  }

  #copyEnv(path: string, values: ReadonlyMap<string, string>): string {
    const copy = join(dirname(path), `.${this.#copies.size}.env`);
    this.#copies.set(copy, writeEnvText(values));
    return atRoot(copy);
  }

  /** A config or secret that takes its value from a variable: the value itself, or a name for it. */
  #rewriteValue(kind: 'configs' | 'secrets', value: ComposeValue, { lookup }: FileContext): void {
    const one = untag(value);
    const variable = one instanceof Map ? one.get('environment') : undefined;
    if (!(one instanceof Map) || typeof variable !== 'string') return;
    const found = lookup(variable);
    if (kind === 'configs') {
      if (found === undefined) throw invalid(`${kind}: environment`, `The variable ${variable} is not set`);
      one.delete('environment');
      one.set('content', found);
      return;
    }
    const name = `CHATOPS_VALUE_${this.#values.size}`;
    this.#values.set(name, found === undefined ? { unset: variable } : { text: found });
    one.set('environment', name);
  }

  #localPath(value: ComposeValue, base: string, by: string): string {
    if (typeof value !== 'string' || value === '') throw invalid(by, 'A path is not a text');
    if (isRemote(value)) {
      throw new Failure(
        'compose-remote',
        `${by}: It names a file of another host, which can change after it was checked. Nothing was read.`,
        'Copy the file into the stack’s folder. No grant allows remote files.',
      );
    }
    return this.#files.locate(absolutePath(value, base), by);
  }

  #parseEnv(text: string, path: string, lookup: Lookup): Map<string, string> {
    try {
      return readEnvText(text, lookup, name =>
        this.#warnings.add(`${path}: the variable ${name} is not set, and is empty.`),
      );
    } catch (error) {
      throw envFailure(error, path);
    }
  }

  #parseRawEnv(text: string, path: string): Map<string, string> {
    try {
      return readRawEnvText(text);
    } catch (error) {
      throw envFailure(error, path);
    }
  }
}

/** Marks an absolute path that starts at the copy of the root folder. The renderer puts that folder's path in its place. */
function atRoot(path: string): string {
  return `${COPY_ROOT}${path}`;
}

/** Stands for the folder of the copies until they are written. It is a control character: no source can hold it. */
export const COPY_ROOT = '\u0001';

function envFailure(error: unknown, path: string): unknown {
  if (!(error instanceof EnvTextError)) return error;
  return new Failure(
    'env-file-invalid',
    `${path}:${error.line}: ${error.message}.`,
    'Correct the line. Nothing was started.',
  );
}

function invalid(by: string, reason: string): Failure {
  return new Failure('compose-invalid', `${by}: ${reason}.`, 'Correct the compose file. Nothing was started.');
}

function untag(value: ComposeValue): ComposeValue {
  return value instanceof Tagged ? value.value : value;
}

function asList(value: ComposeValue): ComposeValue[] {
  const plain = untag(value);
  if (plain === null) return [];
  return Array.isArray(plain) ? plain : [plain];
}

function entries(value: ComposeValue | undefined): [string, ComposeValue][] {
  const plain = value === undefined ? null : untag(value);
  return plain instanceof Map ? [...plain] : [];
}

function isFalse(value: ComposeValue | undefined): boolean {
  return value === false || value === 'false';
}

/** Returns the first line that has the key, counted from 1; undefined if none has. */
function lineOf(text: string, key: string): number | undefined {
  const index = text
    .split('\n')
    .findIndex(line => new RegExp(`^\\s*-?\\s*["']?${escapeRegExp(key)}["']?\\s*[=:]`).test(line));
  return index < 0 ? undefined : index + 1;
}

function suffix(line: number | undefined): string {
  return line === undefined ? '' : `:${line}`;
}

function escapeRegExp(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
