import { readdir } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { yamlValue } from '../../intents/yaml-value.ts';
import { matchesPattern } from '../config/trust.ts';
import { readRegular } from '../system/safe-paths.ts';
import { isChangedByCompose, listUnsetVariables, readEnvFile } from './env-file.ts';

/** The secrets of a stack. */
export interface StackSecrets {
  values: string[];
  /** One line for each value that compose changes, without the value. */
  warnings: string[];
}

const MAX_FILE_BYTES = 1024 * 1024;
/** Depth to which `include` is followed. */
const MAX_INCLUDE_DEPTH = 4;

const SECRET_NAME =
  /pass(w(or)?d|phrase)?|secret|token|credential|private|api_?key|access_?key|auth|salt|webhook|dsn|(^|_)(key|pw|pwd|cookie)($|_)/i;
/** Names whose values are logged unless they look secret too: readers of a log need them. */
const PLAIN_NAME =
  /^(TZ|LANG|LC_\w+|COMPOSE_\w+)$|(^|_)(IMAGE|TAG|VERSION|PORT|DIR|FOLDER|PATH|ROOT|HOSTNAME|DOMAIN|LEVEL)$/i;
/** Values that are never a secret: they would be redacted in every sentence. */
const PLAIN_VALUE =
  /^(enabled?|disabled?|production|development|staging|warning|default|localhost|postgres|mariadb|nobody|public)$/i;

/** Tells if the name of a variable says that its value is a secret. */
export function looksSecret(name: string): boolean {
  return SECRET_NAME.test(name);
}

/**
 * Finds the secrets of a stack: the values of its `.env` file, of files that `env_file` names, of variables in its compose
 * files whose names look secret, and the files of its `secrets`. `shown`: names whose values may be logged. `shipped` maps
 * the final path of each file that is about to be written to the path of its content. An unreadable file has no secrets.
 */
export async function findSecrets(
  folder: string,
  shipped: ReadonlyMap<string, string>,
  shown: string[],
): Promise<StackSecrets> {
  const search = new SecretSearch(folder, shipped, shown);
  await search.searchEnvFile(join(folder, '.env'));
  const names = await readdir(folder).catch(() => []);
  const paths = [...names.map(name => join(folder, name)), ...shipped.keys()];
  for (const path of paths) if (/\.ya?ml$/.test(path)) await search.searchComposeFile(path);
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
  readonly #setNames = new Set<string>();

  constructor(folder: string, shipped: ReadonlyMap<string, string>, shown: string[]) {
    this.#folder = folder;
    this.#shipped = shipped;
    this.#shown = shown;
  }

  get found(): StackSecrets {
    return { values: [...this.#values], warnings: this.#warnings };
  }

  async searchEnvFile(path: string, isRaw = false): Promise<void> {
    if (this.#seen.has(path)) return;
    this.#seen.add(path);
    const texts = await this.#readTexts(path);
    for (const [index, text] of texts.entries()) {
      const assignments = readEnvFile(text);
      for (const { name } of assignments) this.#setNames.add(name);
      for (const assignment of assignments) {
        this.#addVariable(assignment.name, assignment.value, true);
        // Compose prints such a part in a warning, as the name of a variable.
        for (const part of isRaw ? [] : listUnsetVariables(assignment, this.#setNames)) this.#add(part);
      }
      // No warning about a file that is about to be replaced.
      if (isRaw || index < texts.length - 1) continue;
      for (const { name, line } of assignments.filter(one => isChangedByCompose(one, this.#setNames)))
        this.#warnings.push(
          `${path}:${line}: compose reads a "$" in ${name} as a variable and changes the value. Put it in single quotes.`,
        );
    }
  }

  /** The file as it is now, and as it will be. */
  async #readTexts(path: string): Promise<string[]> {
    const shipped = this.#shipped.get(path);
    const texts = [await readText(path), shipped === undefined ? undefined : await readText(shipped)];
    return texts.filter(text => text !== undefined);
  }

  async searchComposeFile(path: string, depth = 0): Promise<void> {
    if (this.#seen.has(path) || depth > MAX_INCLUDE_DEPTH) return;
    this.#seen.add(path);
    for (const text of await this.#readTexts(path)) {
      for (const config of parseConfigs(text)) await this.#searchConfig(config, dirname(path), depth);
    }
  }

  async #searchConfig(value: unknown, base: string, depth: number): Promise<void> {
    const config = asMap(value);
    for (const service of Object.values(asMap(config.services))) {
      const { env_file, environment } = asMap(service);
      for (const entry of asList(env_file)) {
        const { path, format } = typeof entry === 'string' ? { path: entry, format: undefined } : asMap(entry);
        if (typeof path === 'string') await this.searchEnvFile(resolve(base, path), format === 'raw');
      }
      for (const [name, text] of listVariables(environment)) this.#addVariable(name, text, false);
    }
    for (const secret of Object.values(asMap(config.secrets))) {
      const { file, content } = asMap(secret);
      if (typeof file === 'string')
        for (const text of await this.#readTexts(resolve(base, file))) this.#add(text.trim());
      if (typeof content === 'string') this.#add(content.trim());
    }
    for (const entry of asList(config.include)) {
      const paths = typeof entry === 'string' ? [entry] : asList(asMap(entry).path);
      for (const path of paths) {
        if (typeof path !== 'string' || path.includes('://')) continue;
        const file = resolve(base, path);
        await this.searchComposeFile(file, depth + 1);
        await this.searchEnvFile(join(dirname(file), '.env'));
      }
    }
  }

  /** `isPrivate`: every value is a secret, unless its name or value is plainly public. */
  #addVariable(name: string, value: string, isPrivate: boolean): void {
    if (this.#shown.some(pattern => matchesPattern(pattern, name))) return;
    if (!looksSecret(name)) {
      if (!isPrivate || PLAIN_NAME.test(name) || PLAIN_VALUE.test(value)) return;
      if (value.toLowerCase() === basename(this.#folder).toLowerCase()) return;
    }
    this.#add(value);
  }

  #add(value: string): void {
    if (value === '') return;
    this.#values.add(value);
    // The form in which compose passes it on.
    if (value.includes('$$')) this.#values.add(value.replaceAll('$$', '$'));
    const password = /^[a-z][\w+.-]*:\/\/[^/@\s:]*:([^/@\s]+)@/i.exec(value)?.[1];
    if (password !== undefined) this.#values.add(decodePercent(password));
  }
}

/** Parses the documents of a compose file. An unreadable one has no secrets that compose could use either. */
function parseConfigs(text: string): unknown[] {
  try {
    return parseAllDocuments(text, { prettyErrors: false, logLevel: 'silent' }).flatMap(document =>
      'toJS' in document && document.errors.length === 0 ? [yamlValue(document, 100)] : [],
    );
  } catch {
    return [];
  }
}

/** Returns the values of all variables of a rendered config whose names look secret. */
export function listRenderedSecrets(config: unknown): string[] {
  return Object.values(asMap(asMap(config).services)).flatMap(service =>
    listVariables(asMap(service).environment).flatMap(([name, value]) => (looksSecret(name) ? [value] : [])),
  );
}

function listVariables(environment: unknown): [string, string][] {
  const pairs: [string, unknown][] = Array.isArray(environment)
    ? environment.map(line => [String(line).split('=', 1)[0] ?? '', String(line).replace(/^[^=]*=?/, '')])
    : Object.entries(asMap(environment));
  return pairs.flatMap(([name, value]) => (value === null || value === undefined ? [] : [[name, String(value)]]));
}

function asMap(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

function asList(value: unknown): unknown[] {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : [value];
}

async function readText(path: string): Promise<string | undefined> {
  try {
    // A link leads to secrets, too, whether or not compose is allowed to follow it.
    return (await readRegular(path, MAX_FILE_BYTES, { follow: true })).toString();
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
