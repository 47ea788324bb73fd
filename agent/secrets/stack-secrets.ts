import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { yamlValue } from '../../intents/yaml-value.ts';
import { matchesPattern } from '../config/trust.ts';
import { isChanged, readEnvFile, unsetIn } from './env-file.ts';

/** What is known of the secrets of a stack. */
export interface StackSecrets {
  values: string[];
  /** Of values that compose changes. One line each, without the value. */
  warnings: string[];
}

const LARGEST_FILE = 1024 * 1024;
/** How deep `include` is followed. */
const MOST_INCLUDES = 4;

const SECRET_NAME =
  /pass(w(or)?d|phrase)?|secret|token|credential|private|api_?key|access_?key|auth|salt|webhook|dsn|(^|_)(key|pw|pwd|cookie)($|_)/i;
/** Names whose values are told, unless they look secret too: they are what logs are read for. */
const PLAIN_NAME =
  /^(TZ|LANG|LC_\w+|COMPOSE_\w+)$|(^|_)(IMAGE|TAG|VERSION|PORT|DIR|FOLDER|PATH|ROOT|HOSTNAME|DOMAIN|LEVEL)$/i;
/** Values that no secret is: they would be starred in every sentence. */
const PLAIN_VALUE =
  /^(enabled?|disabled?|production|development|staging|warning|default|localhost|postgres|mariadb|nobody|public)$/i;

/** Whether the name of a variable tells that its value is a secret. */
export function looksSecret(name: string): boolean {
  return SECRET_NAME.test(name);
}

/**
 * The secrets of a stack: values of its `.env` file, of the files that `env_file` names, of variables in its compose files
 * whose names look secret, and of the files of its `secrets`. `shown`: names whose values may be told. `shipped`: files that
 * are about to be put in place, by their place: where they lie now. What can't be read has none.
 */
export async function findSecrets(
  folder: string,
  shipped: ReadonlyMap<string, string>,
  shown: string[],
): Promise<StackSecrets> {
  const search = new SecretSearch(folder, shipped, shown);
  await search.envFile(join(folder, '.env'));
  const names = await readdir(folder).catch(() => []);
  const paths = [...names.map(name => join(folder, name)), ...shipped.keys()];
  for (const path of paths) if (/\.ya?ml$/.test(path)) await search.composeFile(path);
  return search.found;
}

class SecretSearch {
  readonly #folder: string;
  readonly #shipped: ReadonlyMap<string, string>;
  readonly #shown: string[];
  readonly #seen = new Set<string>();
  readonly #values = new Set<string>();
  readonly #warnings: string[] = [];
  /** Names that `.env` sets: `env_file` entries may use them. */
  readonly #set = new Set<string>();

  constructor(folder: string, shipped: ReadonlyMap<string, string>, shown: string[]) {
    this.#folder = folder;
    this.#shipped = shipped;
    this.#shown = shown;
  }

  get found(): StackSecrets {
    return { values: [...this.#values], warnings: this.#warnings };
  }

  async envFile(path: string, isRaw = false): Promise<void> {
    if (this.#seen.has(path)) return;
    this.#seen.add(path);
    const texts = await this.#textsOf(path);
    for (const [index, text] of texts.entries()) {
      const assignments = readEnvFile(text);
      for (const { name } of assignments) this.#set.add(name);
      for (const assignment of assignments) {
        this.#variable(assignment.name, assignment.value, true);
        // Compose complains of them by what it takes for their names.
        for (const part of isRaw ? [] : unsetIn(assignment, this.#set)) this.#take(part);
      }
      // What is about to be replaced changes nothing any more.
      if (isRaw || index < texts.length - 1) continue;
      for (const { name, line } of assignments.filter(one => isChanged(one, this.#set)))
        this.#warnings.push(
          `${path}:${line}: compose reads a "$" in ${name} as a variable and changes the value. Put it in single quotes.`,
        );
    }
  }

  /** As it is, and as it will be. */
  async #textsOf(path: string): Promise<string[]> {
    const shipped = this.#shipped.get(path);
    const texts = [await readText(path), shipped === undefined ? undefined : await readText(shipped)];
    return texts.filter(text => text !== undefined);
  }

  async composeFile(path: string, depth = 0): Promise<void> {
    if (this.#seen.has(path) || depth > MOST_INCLUDES) return;
    this.#seen.add(path);
    for (const text of await this.#textsOf(path)) {
      for (const config of configsIn(text)) await this.#config(config, dirname(path), depth);
    }
  }

  async #config(value: unknown, base: string, depth: number): Promise<void> {
    const config = mapOf(value);
    for (const service of Object.values(mapOf(config.services))) {
      const { env_file, environment } = mapOf(service);
      for (const entry of listOf(env_file)) {
        const { path, format } = typeof entry === 'string' ? { path: entry, format: undefined } : mapOf(entry);
        if (typeof path === 'string') await this.envFile(resolve(base, path), format === 'raw');
      }
      for (const [name, text] of variablesOf(environment)) this.#variable(name, text, false);
    }
    for (const secret of Object.values(mapOf(config.secrets))) {
      const { file, content } = mapOf(secret);
      if (typeof file === 'string')
        for (const text of await this.#textsOf(resolve(base, file))) this.#take(text.trim());
      if (typeof content === 'string') this.#take(content.trim());
    }
    for (const entry of listOf(config.include)) {
      const paths = typeof entry === 'string' ? [entry] : listOf(mapOf(entry).path);
      for (const path of paths) {
        if (typeof path !== 'string' || path.includes('://')) continue;
        const file = resolve(base, path);
        await this.composeFile(file, depth + 1);
        await this.envFile(join(dirname(file), '.env'));
      }
    }
  }

  /** `isPrivate`: every value is a secret that is not plainly none. */
  #variable(name: string, value: string, isPrivate: boolean): void {
    if (this.#shown.some(pattern => matchesPattern(pattern, name))) return;
    if (!looksSecret(name)) {
      if (!isPrivate || PLAIN_NAME.test(name) || PLAIN_VALUE.test(value)) return;
      if (value.toLowerCase() === basename(this.#folder).toLowerCase()) return;
    }
    this.#take(value);
  }

  #take(value: string): void {
    if (value === '') return;
    this.#values.add(value);
    // As compose hands it on.
    if (value.includes('$$')) this.#values.add(value.replaceAll('$$', '$'));
    const password = /^[a-z][\w+.-]*:\/\/[^/@\s:]*:([^/@\s]+)@/i.exec(value)?.[1];
    if (password !== undefined) this.#values.add(decodePercent(password));
  }
}

/** The documents of a compose file. What can't be read has no secrets that compose could use either. */
function configsIn(text: string): unknown[] {
  try {
    return parseAllDocuments(text, { prettyErrors: false, logLevel: 'silent' }).flatMap(document =>
      'toJS' in document && document.errors.length === 0 ? [yamlValue(document, 100)] : [],
    );
  } catch {
    return [];
  }
}

/** The variables of a rendered service whose names look secret. */
export function secretsOfRendered(config: unknown): string[] {
  return Object.values(mapOf(mapOf(config).services)).flatMap(service =>
    variablesOf(mapOf(service).environment).flatMap(([name, value]) => (looksSecret(name) ? [value] : [])),
  );
}

function variablesOf(environment: unknown): [string, string][] {
  const pairs: [string, unknown][] = Array.isArray(environment)
    ? environment.map(line => [String(line).split('=', 1)[0] ?? '', String(line).replace(/^[^=]*=?/, '')])
    : Object.entries(mapOf(environment));
  return pairs.flatMap(([name, value]) => (value === null || value === undefined ? [] : [[name, String(value)]]));
}

function mapOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

function listOf(value: unknown): unknown[] {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : [value];
}

async function readText(path: string): Promise<string | undefined> {
  try {
    const found = await stat(path);
    return found.isFile() && found.size <= LARGEST_FILE ? await readFile(path, 'utf8') : undefined;
  } catch {
    return undefined;
  }
}

function decodePercent(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
