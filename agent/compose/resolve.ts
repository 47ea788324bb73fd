import { basename, dirname, join } from 'node:path';
import { describeChangedValue, describeUnset } from '../plan/compose-config.ts';
import { Failure } from '../plan/failure.ts';
import {
  asList,
  type ComposeMap,
  type ComposeValue,
  entries,
  parseComposeFile,
  writeComposeFile,
} from './compose-yaml.ts';
import { writeEnvText } from './env-text.ts';
import type { Lookup } from './interpolate.ts';
import { parseEnv, rewriteService } from './resolve-service.ts';
import { invalidCompose, type SourcePlace, StackSources } from './stack-sources.ts';

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
/** The most characters of compose files that are parsed, a file counted again for each place that names it. */
const MAX_PARSED = 2 * 1024 * 1024;
/** The most characters of all copies. */
const MAX_COPIED = 16 * 1024 * 1024;

/** The sources of a stack's config as compose gets them: copies that name nothing but one another. */
export interface ResolvedSources {
  /** The copies by their path below the copy of the root folder `/`. */
  copies: Map<string, string>;
  /** The main files' copies, in order. */
  files: string[];
  /** The sources that were read, by absolute path, compose files first. */
  sources: Map<string, string>;
  /** Secrets that the config takes from variables, by the names that stand in for the variables. */
  values: Map<string, { text: string } | { unset: string }>;
  profiles: string[];
  /** The project name that the files or `.env` give, with its place; undefined if none does. */
  name: { text: string; at: string } | undefined;
  /** One sentence for each variable of a compose file that nothing sets, and for each value of an env file with one. */
  warnings: string[];
}

/** The variables of one file, and the folder of its relative paths. */
interface FileContext {
  base: string;
  lookup: Lookup;
  /** Distinguishes variables: the same file has other values with other ones. */
  variables: number;
  /** The service of an extended file that counts. */
  extended: string | undefined;
  /** The copies that this one is made for. */
  chain: readonly string[];
}

/** Names a stack's folder and the files in it that a run will write. */
export interface ResolveRequest {
  dir: string;
  compose?: string | undefined;
  overlay: Readonly<Record<string, string | null>>;
  project: string;
  /** The folder in which the copies will be: they name one another by paths below it. */
  root: string;
}

/**
 * Follows everything that compose would read for a stack, within the stack's folder: its files, `include`, `extends`,
 * `env_file`, `label_file` and `.env`. Throws {@link Failure} with the file, the line and the key.
 */
export function resolveSources(request: ResolveRequest): Promise<ResolvedSources> {
  return new Resolver(request).resolve(request.compose);
}

class Resolver {
  readonly #files: StackSources;
  readonly #root: string;
  readonly #project: string;
  readonly #copies = new Map<string, string>();
  readonly #copyOf = new Map<string, Promise<string>>();
  readonly #values: ResolvedSources['values'] = new Map();
  readonly #variables = new Map<string, number>();
  readonly #warnings = new Set<string>();
  #name: ResolvedSources['name'];
  #parsed = 0;
  #copied = 0;
  /** Env files of services see the variables of the project, also in an included file. */
  #projectLookup: Lookup = () => undefined;

  constructor({ dir, overlay, root, project }: ResolveRequest) {
    this.#files = new StackSources(dir, overlay);
    this.#root = root;
    this.#project = project;
  }

  async resolve(named: string | undefined): Promise<ResolvedSources> {
    const { dir } = this.#files;
    const env = await this.#readProjectEnv(dir, () => undefined);
    this.#projectLookup = name => (name === 'COMPOSE_PROJECT_NAME' ? this.#project : env.get(name));
    const files = await this.#listMainFiles(named, env);
    const context = { base: dir, lookup: this.#projectLookup, variables: 0, extended: undefined, chain: [] };
    const copies: string[] = [];
    for (const file of files) copies.push(await this.#copyFile(file, () => file, context));
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
    const text = await this.#files.text(path, () => path);
    if (text === undefined) return new Map();
    const values = parseEnv(text, path, parent, this.#warn(path));
    for (const name of values.keys()) {
      if (!name.startsWith('COMPOSE_') || FOLLOWED.includes(name) || IGNORED.test(name)) continue;
      const line = text.split('\n').findIndex(one => one.includes(name)) + 1;
      throw new Failure(
        'compose-not-allowed',
        `${path}:${line}: The variable ${name} changes how compose works, and is not allowed.`,
        `Remove ${name}. No grant allows it. Nothing was started.`,
      );
    }
    return values;
  }

  async #listMainFiles(named: string | undefined, env: ReadonlyMap<string, string>): Promise<string[]> {
    const { dir } = this.#files;
    const listed = env.get('COMPOSE_FILE');
    if (named !== undefined) return [this.#files.localPath(named, dir, () => 'compose')];
    if (listed !== undefined && listed !== '')
      return listed.split(':').map(path => this.#files.localPath(path, dir, () => `${dir}/.env: COMPOSE_FILE`));
    const find = async (names: string[]) => {
      for (const path of names.map(name => join(dir, name)))
        if ((await this.#files.composeText(path, () => path)) !== undefined) return [path];
      return [];
    };
    const found = await find(COMPOSE_FILES);
    if (found.length > 0) return [...found, ...(await find(OVERRIDES))];
    throw new Failure(
      'compose-file-missing',
      `${dir} holds no compose file.`,
      `Put ${dir}/compose.yaml there, or ship it with "source_dir".`,
    );
  }

  /** Returns the path of the file's copy. `by` names the place that names the file. */
  #copyFile(file: string, by: SourcePlace, context: FileContext): Promise<string> {
    const key = JSON.stringify([file, context.base, context.variables, context.extended]);
    if (context.chain.includes(key) || context.chain.length > MAX_INCLUDES)
      throw invalidCompose(by, 'The compose files include or extend one another without end');
    const known = this.#copyOf.get(key);
    if (known) return known;
    const made = this.#makeCopy(file, by, { ...context, chain: [...context.chain, key] }, this.#copyOf.size);
    this.#copyOf.set(key, made);
    return made;
  }

  async #makeCopy(file: string, by: SourcePlace, context: FileContext, number: number): Promise<string> {
    const text = await this.#files.composeText(file, by);
    if (text === undefined) throw invalidCompose(by, `The file ${file} does not exist`);
    this.#parsed += text.length;
    if (this.#parsed > MAX_PARSED) throw tooLarge(by);
    const { config, lineOf } = parseComposeFile(text, file, context.lookup, (name, line) =>
      this.#warnings.add(describeUnset(file, line, name)),
    );
    const at = (...path: string[]): SourcePlace => {
      return () => {
        const line = lineOf(path);
        return `${file}${line === undefined ? '' : `:${line}`}: ${path.join('.')}`;
      };
    };
    if (context.extended !== undefined) keepExtended(config, context.extended);
    else await this.#rewriteIncludes(config, at('include'), context);
    const name = config.get('name');
    if (context.chain.length === 1 && typeof name === 'string')
      this.#name = { text: name, at: `${file}:${lineOf(['name'])}` };
    for (const [name, service] of entries(config.get('services'))) {
      await rewriteService(service, key => at('services', name, key), {
        files: this.#files,
        base: context.base,
        lookup: context.lookup,
        projectLookup: this.#projectLookup,
        warn: path => this.#warn(path),
        copyEnv: (path, values) => this.#store(dirname(path), `${this.#copies.size}.env`, writeEnvText(values), by),
        copyExtended: (path, extended, place) =>
          // Relative paths of an extended file start at its folder: the copy is in the copy of that folder.
          this.#copyFile(path, place, { ...context, base: dirname(path), extended }),
      });
    }
    for (const kind of ['configs', 'secrets'] as const)
      for (const [name, one] of entries(config.get(kind)))
        this.#rewriteValue(kind, one, at(kind, name, 'environment'), context.lookup);
    return this.#store(dirname(file), `${number}.${basename(file)}`, writeComposeFile(config), by);
  }

  async #rewriteIncludes(config: ComposeMap, by: SourcePlace, context: FileContext): Promise<void> {
    const include = config.get('include');
    if (include === undefined || include === null) return;
    const rewritten: ComposeValue[] = [];
    for (const entry of asList(include)) {
      const item: ComposeMap = entry instanceof Map ? entry : new Map([['path', entry]]);
      const unknown = [...item.keys()].find(key => !['path', 'project_directory', 'env_file'].includes(key));
      if (unknown !== undefined) throw invalidCompose(by, `The key "${unknown}" is not known`);
      const paths = asList(item.get('path')).map(path => this.#files.localPath(path, context.base, by));
      const [first] = paths;
      if (first === undefined) throw invalidCompose(by, 'An entry names no file');
      const folder = item.get('project_directory') ?? null;
      const base = folder === null ? dirname(first) : this.#files.localPath(folder, context.base, by);
      const { lookup, variables } = await this.#includeVariables(item.get('env_file'), base, by, context);
      const inner: FileContext = { base, lookup, variables, extended: undefined, chain: context.chain };
      const copies: string[] = [];
      for (const path of paths) copies.push(await this.#copyFile(path, by, inner));
      rewritten.push(
        new Map<string, ComposeValue>([
          ['path', copies],
          ['project_directory', `${this.#root}${base}`],
          ['env_file', '/dev/null'],
        ]),
      );
    }
    config.set('include', rewritten);
  }

  /** The variables of an included file: those of its parent come first. */
  async #includeVariables(
    named: ComposeValue | undefined,
    base: string,
    by: SourcePlace,
    { lookup, variables, base: parentBase }: FileContext,
  ): Promise<Pick<FileContext, 'lookup' | 'variables'>> {
    let own = new Map<string, string>();
    if (asList(named).length === 0) own = await this.#readProjectEnv(base, lookup);
    for (const entry of asList(named)) {
      const path = this.#files.localPath(entry, parentBase, by);
      const text = await this.#files.text(path, by);
      if (text === undefined) throw invalidCompose(by, `The env file ${path} does not exist`);
      for (const [name, value] of parseEnv(text, path, lookup, this.#warn(path), own)) own.set(name, value);
    }
    if (own.size === 0) return { lookup, variables };
    const key = JSON.stringify([variables, ...own]);
    const known = this.#variables.get(key) ?? this.#variables.size + 1;
    this.#variables.set(key, known);
    return { lookup: name => lookup(name) ?? own.get(name), variables: known };
  }

  /** A config or secret that takes its value from a variable: the value itself, or a name for it. */
  #rewriteValue(kind: 'configs' | 'secrets', one: ComposeMap, by: SourcePlace, lookup: Lookup): void {
    const variable = one.get('environment');
    if (typeof variable !== 'string') return;
    const found = lookup(variable);
    if (kind === 'configs') {
      if (found === undefined) throw invalidCompose(by, `The variable ${variable} is not set`);
      one.delete('environment');
      one.set('content', found);
      return;
    }
    const value = found === undefined ? { unset: variable } : { text: found };
    // A file that is included twice must give the same secret twice.
    const known = [...this.#values].find(([, other]) => JSON.stringify(other) === JSON.stringify(value));
    const name = known?.[0] ?? `CHATOPS_VALUE_${this.#values.size}`;
    this.#values.set(name, value);
    one.set('environment', name);
  }

  /** Adds a copy next to the copy of what is in `folder`, and returns its path. */
  #store(folder: string, name: string, text: string, by: SourcePlace): string {
    this.#copied += text.length;
    if (this.#copied > MAX_COPIED) throw tooLarge(by);
    const path = join(folder, `.${name}`);
    this.#copies.set(path, text);
    return `${this.#root}${path}`;
  }

  #warn(file: string): (name: string, line: number) => void {
    return (name, line) => this.#warnings.add(describeChangedValue(file, line, name));
  }
}

/** Removes what compose does not look at in a file that is extended: all but the service and those that it extends in turn. */
function keepExtended(config: ComposeMap, name: string): void {
  const services = new Map(entries(config.get('services')));
  const kept = new Set<string>();
  for (let next: string | undefined = name; next !== undefined && !kept.has(next); ) {
    kept.add(next);
    const found: ComposeValue = services.get(next)?.get('extends') ?? null;
    const inFile: ComposeValue | undefined = found instanceof Map && !found.get('file') ? found.get('service') : found;
    next = typeof inFile === 'string' ? inFile : undefined;
  }
  for (const key of [...config.keys()]) if (key !== 'services') config.delete(key);
  config.set('services', new Map([...services].filter(([key]) => kept.has(key))));
}

function tooLarge(by: SourcePlace): Failure {
  return new Failure(
    'compose-too-large',
    `${by()}: The stack’s compose files are too large once each file is read for each place that names it.`,
    'Split the stack. Nothing was started.',
  );
}
