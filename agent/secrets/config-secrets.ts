import { matchesPattern } from '../config/trust.ts';
import type { Secret } from '../system/secret-forms.ts';
import { isNaming, listSecretParts, listVariableSecrets } from './likely-secret.ts';

/** Patterns of names in agent.yaml: of variables whose values may be shown, and of those that are secrets in any case. */
export interface SecretNames {
  shown: readonly string[];
  hidden: readonly string[];
}

/** Depth to which a config is searched: compose's own is 8. */
const MAX_DEPTH = 32;
/** The default of a variable: `${NAME:-value}`. */
const DEFAULT_VALUE = /^\$\{\w+:?-([^{}]*)\}$/;

/** Collects secrets, and the names of a stack that are public although a secret may have the same value. */
export class SecretCollection {
  readonly #names: SecretNames;
  readonly #secrets: Secret[] = [];
  readonly #publicNames = new Set<string>();

  constructor(names: SecretNames) {
    this.#names = names;
  }

  /** The secrets. Each has the variables' names, and is marked if it is a public name too. */
  get secrets(): Secret[] {
    return this.#secrets.map(secret => ({
      ...secret,
      isName: this.#publicNames.has(secret.value.toLowerCase()) && !this.#isHidden(secret.names ?? []),
    }));
  }

  addPublicName(name: string): void {
    this.#publicNames.add(name.toLowerCase());
  }

  addVariable(name: string, value: string): void {
    const matches = (pattern: string) => matchesPattern(pattern, name);
    if (this.#names.shown.some(matches)) return;
    const isHidden = this.#names.hidden.some(matches);
    if (isNaming(name) && !isHidden) this.addPublicName(value);
    for (const secret of isHidden ? [value] : listVariableSecrets(name, value)) this.addSecret(secret, name);
  }

  addSecret(written: string, name?: string): void {
    const value = DEFAULT_VALUE.exec(written)?.[1] ?? written;
    if (value === '') return;
    // `$$` is how compose files write `$`.
    const forms = value.includes('$$') ? [value, value.replaceAll('$$', '$')] : [value];
    for (const form of forms) this.#secrets.push({ value: form, names: name === undefined ? [] : [name] });
  }

  /** Adds the secrets of a compose config, as it is written or as compose renders it. */
  addConfig(config: unknown): void {
    const { name, services, secrets } = asMap(config);
    if (typeof name === 'string') this.addPublicName(name);
    for (const [service, { container_name, hostname }] of Object.entries(asMap(services)).map(
      ([key, value]) => [key, asMap(value)] as const,
    ))
      for (const one of [service, container_name, hostname]) if (typeof one === 'string') this.addPublicName(one);
    for (const secret of Object.values(asMap(secrets))) {
      const { content } = asMap(secret);
      if (typeof content === 'string') this.addSecret(content.trim());
    }
    this.#addValues(config);
  }

  /** Every text is a variable of its key; so is an element `KEY=value` of a list. */
  #addValues(value: unknown, depth = 0): void {
    if (depth > MAX_DEPTH) return;
    if (Array.isArray(value)) {
      const texts = value.filter(element => typeof element === 'string');
      for (const text of texts) {
        const [, name, assigned = ''] = /^([A-Za-z_][\w.-]*)=(.*)$/s.exec(text) ?? [];
        if (name === undefined) this.#addParts(text);
        else this.addVariable(name, assigned);
      }
      // `[--password, value]`
      this.#addParts(texts.join(' '));
      for (const element of value) if (typeof element === 'object') this.#addValues(element, depth + 1);
      return;
    }
    for (const [key, member] of Object.entries(asMap(value))) {
      if (typeof member === 'string' || typeof member === 'number') this.addVariable(key, String(member));
      else this.#addValues(member, depth + 1);
    }
  }

  #addParts(text: string): void {
    for (const part of listSecretParts(text)) this.addSecret(part);
  }

  #isHidden(names: readonly string[]): boolean {
    return names.some(name => this.#names.hidden.some(pattern => matchesPattern(pattern, name)));
  }
}

/** Returns the secrets of a rendered config: of its variables, secrets, URLs, commands, labels, options and build arguments. */
export function listSecrets(config: unknown, names: SecretNames): Secret[] {
  const collection = new SecretCollection(names);
  collection.addConfig(config);
  return collection.secrets;
}

/** Returns the files of a config's secrets, as it names them. */
export function listSecretFiles(config: unknown): string[] {
  return Object.values(asMap(asMap(config).secrets)).flatMap(secret => {
    const { file } = asMap(secret);
    return typeof file === 'string' ? [file] : [];
  });
}

export function asMap(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
