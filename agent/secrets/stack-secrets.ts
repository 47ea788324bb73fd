import { readdir } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { yamlValue } from '../../intents/yaml-value.ts';
import { describeChangedValue } from '../plan/compose-config.ts';
import { readRegular } from '../system/safe-paths.ts';
import type { Secret } from '../system/secret-forms.ts';
import { asMap, listSecretFiles, SecretCollection, type SecretNames } from './config-secrets.ts';
import { isChangedByCompose, listUnsetVariables, readEnvFile } from './env-file.ts';
import { looksSecret } from './likely-secret.ts';

/** The secrets of a stack. */
export interface StackSecrets {
  secrets: Secret[];
  /** One line for each value that compose changes, without the value. */
  warnings: string[];
}

const MAX_FILE_BYTES = 1024 * 1024;
/** Depth to which `include` is followed. */
const MAX_INCLUDE_DEPTH = 4;

/**
 * Finds the likely secrets of a stack, before compose renders it: in its `.env` file, in files that `env_file` names, in its
 * compose files, and the files of its `secrets`. `shipped` maps the final path of each file that is about to be written to
 * the path of its content. An unreadable file has no secrets.
 */
export async function findSecrets(
  folder: string,
  shipped: ReadonlyMap<string, string>,
  names: SecretNames,
): Promise<StackSecrets> {
  const search = new SecretSearch(folder, shipped, names);
  await search.searchEnvFile(join(folder, '.env'));
  const files = await readdir(folder).catch(() => []);
  const paths = [...files.map(name => join(folder, name)), ...shipped.keys()];
  for (const path of paths) if (/\.ya?ml$/.test(path)) await search.searchComposeFile(path);
  return search.found;
}

class SecretSearch {
  readonly #shipped: ReadonlyMap<string, string>;
  readonly #collection: SecretCollection;
  readonly #seen = new Set<string>();
  readonly #warnings: string[] = [];
  /** Names that `.env` sets: `env_file` entries may use them. */
  readonly #setNames = new Set<string>();

  constructor(folder: string, shipped: ReadonlyMap<string, string>, names: SecretNames) {
    this.#shipped = shipped;
    this.#collection = new SecretCollection(names);
    this.#collection.addPublicName(basename(folder));
  }

  get found(): StackSecrets {
    return { secrets: this.#collection.secrets, warnings: this.#warnings };
  }

  async searchEnvFile(path: string, isRaw = false): Promise<void> {
    if (this.#seen.has(path)) return;
    this.#seen.add(path);
    const texts = await this.#readTexts(path);
    for (const [index, text] of texts.entries()) {
      const assignments = readEnvFile(text);
      for (const { name } of assignments) this.#setNames.add(name);
      for (const assignment of assignments) {
        const { name, value } = assignment;
        this.#collection.addVariable(name, value);
        // Compose prints such a part of a password in a warning, as the name of a variable.
        if (!isRaw && looksSecret(name))
          for (const part of listUnsetVariables(assignment, this.#setNames)) this.#collection.addSecret(part, name);
      }
      // No warning about a file that is about to be replaced.
      if (isRaw || index < texts.length - 1) continue;
      for (const { name, line } of assignments.filter(one => isChangedByCompose(one, this.#setNames)))
        this.#warnings.push(describeChangedValue(path, line, name));
    }
  }

  /** The file as it is now, and as it will be. */
  async #readTexts(path: string): Promise<string[]> {
    const shipped = this.#shipped.get(path);
    const texts = [await readSmallText(path), shipped === undefined ? undefined : await readSmallText(shipped)];
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
    this.#collection.addConfig(config);
    for (const service of Object.values(asMap(config.services))) {
      for (const entry of asList(asMap(service).env_file)) {
        const { path, format } = typeof entry === 'string' ? { path: entry, format: undefined } : asMap(entry);
        if (typeof path === 'string') await this.searchEnvFile(resolve(base, path), format === 'raw');
      }
    }
    for (const file of listSecretFiles(config))
      for (const text of await this.#readTexts(resolve(base, file))) this.#collection.addSecret(text.trim());
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

function asList(value: unknown): unknown[] {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : [value];
}

/** Returns the text of a regular file of at most 1 MiB; undefined for any other. */
export async function readSmallText(path: string): Promise<string | undefined> {
  try {
    // A link leads to secrets, too, whether or not compose is allowed to follow it.
    return (await readRegular(path, MAX_FILE_BYTES, { follow: true })).toString();
  } catch {
    return undefined;
  }
}
