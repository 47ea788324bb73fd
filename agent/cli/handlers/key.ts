import { existsSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isMap, isScalar, isSeq, parseDocument } from 'yaml';
import { type PublicKey, readPublicKey, readSecretKey } from '../../../protocol/keys.ts';
import { Refused } from '../../../protocol/refusal.ts';
import { KEY_FILE, makeKey, NEXT_KEY_FILE } from '../../config/agent-keys.ts';
import { parseConfig, readConfig } from '../../config/load.ts';
import { refusals as agentRefusals } from '../../refusals.ts';
import type { Arguments, Options } from '../commands.ts';
import { findSocket, requestAgent } from '../local-client.ts';
import { cliRefusals } from '../refusals.ts';

/** The result of a command: facts for programs, lines for people. */
interface KeyCommandResult {
  facts: object;
  lines: string[];
  /** Exit code. */
  code?: number;
}

/** Prints the id of a key (text or file, secret or public), as the audit log shows it. */
export function keyFingerprintCommand(
  [key]: Arguments<'key fingerprint'>,
  { json }: Options<'key fingerprint'>,
): number {
  const text = existsSync(key) ? readFileSync(key, 'utf8') : key;
  const isSecret = text.includes('ed25519-secret:') || text.includes('PRIVATE KEY');
  const { id, text: shown } = isSecret ? readSecretKey(text).public : readPublicKey(text);
  return print({ facts: { id, public: shown }, lines: [`key id: ${id}`, `public: ${shown}`] }, json);
}

/** Adds a key to a trust entry of agent.yaml. */
export async function keyAddCommand(
  [key]: Arguments<'key add'>,
  { entry, config, json }: Options<'key add'>,
): Promise<number> {
  const added = readPublicKey(key);
  changeEntryKeys(config, entry, keys => (keys.some(({ id }) => id === added.id) ? keys : [...keys, added]));
  const line = `The trust entry "${entry}" now trusts the key ${added.id}.`;
  return print(await reloadAgent(config, { key: added.id, entry }, [line]), json);
}

/** Removes a key from a trust entry of agent.yaml. */
export async function keyRemoveCommand(
  [id]: Arguments<'key remove'>,
  { entry, config, json }: Options<'key remove'>,
): Promise<number> {
  changeEntryKeys(config, entry, keys => {
    const left = keys.filter(key => key.id !== id);
    const ids = keys.map(key => key.id);
    if (left.length === keys.length) throw cliRefusals.keyUnknown(entry, id, ids);
    return left;
  });
  const line = `The trust entry "${entry}" no longer trusts the key ${id}.`;
  return print(await reloadAgent(config, { key: id, entry }, [line]), json);
}

/** Makes the next key of the agent, which then signs with both; with `--finish` the next key replaces the old one. */
export async function keyRotateCommand(_args: [], { config, finish, json }: Options<'key rotate'>): Promise<number> {
  const { state_dir } = readConfig(config);
  const next = join(state_dir, NEXT_KEY_FILE);
  return print(
    finish ? await finishRotation(config, next, join(state_dir, KEY_FILE)) : await startRotation(config, next),
    json,
  );
}

async function startRotation(config: string, next: string): Promise<KeyCommandResult> {
  const then = 'Put the new key into the workflows, then run: chatops key rotate --finish';
  if (existsSync(next)) {
    const { text } = readSecretKey(readFileSync(next, 'utf8')).public;
    return {
      facts: { agent_key: text },
      lines: [`agent-key: ${text}`, `A rotation to this key is in progress. ${then}`],
    };
  }
  const made = makeKey(next);
  return reloadAgent(config, { agent_key: made }, [`agent-key: ${made}`, `The agent signs with both keys. ${then}`]);
}

async function finishRotation(config: string, next: string, current: string): Promise<KeyCommandResult> {
  if (!existsSync(next)) throw cliRefusals.rotationNotStarted('The agent has no next key.', 'chatops key rotate');
  renameSync(next, current);
  return reloadAgent(config, { finished: true }, ['The new key has replaced the old one.']);
}

function print({ facts, lines, code = 0 }: KeyCommandResult, json: boolean): number {
  for (const line of json ? [JSON.stringify(facts)] : lines) console.log(line);
  return code;
}

/** Changes the keys of one entry and preserves the rest of the file, with its comments. Throws `Refused` or `ConfigError`. */
function changeEntryKeys(file: string, entry: string, edit: (keys: PublicKey[]) => PublicKey[]): void {
  const text = readFileSync(file, 'utf8');
  const document = parseDocument(text, { uniqueKeys: true, strict: true, schema: 'core' });
  const trust = document.get('trust');
  const found = isSeq(trust) ? trust.items.find(item => isMap(item) && item.get('name') === entry) : undefined;
  if (!isMap(found)) {
    const names = isSeq(trust) ? trust.items.map(item => String(isMap(item) ? item.get('name') : '')) : [];
    throw new Refused(agentRefusals.entryUnknown(entry, names));
  }
  const node = found.get('key', true);
  const texts = isSeq(node) ? (node.toJSON() as string[]) : isScalar(node) ? [String(node.value)] : [];
  const keys = edit(texts.map(readPublicKey)).map(key => key.text);
  if (keys.length === 0) found.delete('key');
  else found.set('key', keys.length === 1 ? keys[0] : document.createNode(keys));
  const changed = document.toString({ lineWidth: 0 });
  parseConfig(changed, file);
  const partial = `${file}.partial`;
  writeFileSync(partial, changed, { mode: statSync(file).mode & 0o777 });
  renameSync(partial, file);
}

/** Makes the agent of this host read agent.yaml again, if it runs. */
async function reloadAgent(config: string, facts: object, lines: string[]): Promise<KeyCommandResult> {
  const socket = findSocket({ config });
  if (!existsSync(socket))
    return {
      facts: { ...facts, reloaded: false },
      lines: [...lines, 'No agent is running here. It uses the change when it starts.'],
    };
  const { taken, message } = await requestAgent<{ taken: boolean; message: string }>(socket, 'POST', '/reload', {});
  return { facts: { ...facts, reloaded: taken, message }, lines: [...lines, message], code: taken ? 0 : 1 };
}
