import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generateKey, readSecretKey, type SecretKey } from '../../protocol/keys.ts';
import { messageOf } from '../../protocol/refusal.ts';
import { ConfigError } from './load.ts';

/** The agent's own key in `state_dir`, and while it is being changed the one that is to follow it. */
export const KEY_FILE = 'agent.key';
export const NEXT_KEY_FILE = 'agent.key.next';

/** The keys with which the agent signs its hellos and receipts: both of them while its key is being changed. */
export class AgentKeys {
  readonly #folder: string;
  #texts: string[] = [];
  #keys: [SecretKey, ...SecretKey[]];

  /** The key is made where there is none. Throws {@link ConfigError} where it can't be used. */
  constructor(stateDir: string) {
    this.#folder = stateDir;
    if (!existsSync(join(stateDir, KEY_FILE))) makeKey(join(stateDir, KEY_FILE));
    this.#keys = this.#read();
  }

  get current(): SecretKey {
    return this.#keys[0];
  }

  /** The current one first. */
  get all(): readonly SecretKey[] {
    return this.#keys;
  }

  /** As they stand in their files, with and without what says their kind. Nobody may be told. */
  get secrets(): string[] {
    return this.#texts.flatMap(text => [text, text.split(':')[1] ?? '']);
  }

  /** Takes over what the command line has changed. Throws {@link ConfigError}, and then changes nothing. */
  reload(): void {
    this.#keys = this.#read();
  }

  #read(): [SecretKey, ...SecretKey[]] {
    const current = readKeyFile(join(this.#folder, KEY_FILE));
    const next = join(this.#folder, NEXT_KEY_FILE);
    const following = existsSync(next) ? [readKeyFile(next)] : [];
    const keys: [SecretKey, ...SecretKey[]] = [readSecretKey(current), ...following.map(readSecretKey)];
    this.#texts = [current, ...following];
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

/** Its text, which is a key. Throws {@link ConfigError}. */
function readKeyFile(file: string): string {
  try {
    if ((statSync(file).mode & 0o077) === 0) {
      const text = readFileSync(file, 'utf8').trim();
      readSecretKey(text);
      return text;
    }
  } catch (error) {
    throw new ConfigError(
      `${file}: ${messageOf(error)} Put the agent's key back, or take the file away if it is ${NEXT_KEY_FILE}.`,
    );
  }
  throw new ConfigError(`${file}: others can read the agent’s key. Run: chmod 600 ${file}`);
}
