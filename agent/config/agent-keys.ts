import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generateKey, readSecretKey, type SecretKey } from '../../protocol/keys.ts';
import { messageOf } from '../../protocol/refusal.ts';
import { ConfigError } from './load.ts';

/** The agent's key in `state_dir`, and during a key change the next one. */
export const KEY_FILE = 'agent.key';
export const NEXT_KEY_FILE = 'agent.key.next';

/** The keys that sign hellos and receipts: both keys during a key change. */
export class AgentKeys {
  readonly #folder: string;
  #texts: string[] = [];
  #keys: [SecretKey, ...SecretKey[]];

  /** Makes the key if it does not exist. Throws {@link ConfigError} if it is not usable. */
  constructor(stateDir: string) {
    this.#folder = stateDir;
    if (!existsSync(join(stateDir, KEY_FILE))) makeKey(join(stateDir, KEY_FILE));
    this.#keys = this.#read();
  }

  get current(): SecretKey {
    return this.#keys[0];
  }

  /** All keys, the current one first. */
  get all(): readonly [SecretKey, ...SecretKey[]] {
    return this.#keys;
  }

  /** The texts that the redactor hides: each secret with and without its prefix. */
  get secrets(): string[] {
    return this.#texts.flatMap(text => [text, text.split(':')[1] ?? '']);
  }

  /** Reads the files again, which the command line may have changed. Throws {@link ConfigError}, and then changes nothing. */
  reload(): void {
    this.#keys = this.#read();
  }

  #read(): [SecretKey, ...SecretKey[]] {
    const current = readKeyFile(join(this.#folder, KEY_FILE));
    const next = join(this.#folder, NEXT_KEY_FILE);
    const nextTexts = existsSync(next) ? [readKeyFile(next)] : [];
    const keys: [SecretKey, ...SecretKey[]] = [readSecretKey(current), ...nextTexts.map(readSecretKey)];
    this.#texts = [current, ...nextTexts];
    return keys;
  }
}

/** Makes a key, mode 0600, and returns its public half. */
export function makeKey(file: string): string {
  const key = generateKey();
  writeFileSync(file, `${key.secret}\n`, { mode: 0o600, flag: 'wx' });
  chmodSync(file, 0o600);
  return key.public;
}

/** Returns the text of a key file. Throws {@link ConfigError}. */
function readKeyFile(file: string): string {
  try {
    if ((statSync(file).mode & 0o077) === 0) {
      const text = readFileSync(file, 'utf8').trim();
      readSecretKey(text);
      return text;
    }
  } catch (error) {
    throw new ConfigError(
      `${file}: ${messageOf(error)} Put the agent's key back, or remove the file if it is ${NEXT_KEY_FILE}.`,
    );
  }
  throw new ConfigError(`${file}: other users can read the agent’s key. Run: chmod 600 ${file}`);
}
