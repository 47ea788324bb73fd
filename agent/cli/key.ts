import { existsSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { isMap, isScalar, isSeq, parseDocument } from 'yaml';
import { type PublicKey, readPublicKey, readSecretKey } from '../../protocol/keys.ts';
import { Refused } from '../../protocol/refusal.ts';
import { KEY_FILE, makeKey, NEXT_KEY_FILE } from '../config/agent-keys.ts';
import { parseConfig, readConfig } from '../config/load.ts';
import { refusals as agentRefusals } from '../refusals.ts';
import { findSocket, requestAgent } from './local-client.ts';
import { cliRefusals } from './refusals.ts';

const USAGE = `usage: chatops key fingerprint KEY | FILE [--json]
       chatops key add PUBLIC-KEY --entry NAME [--json] [--config FILE]
       chatops key remove ID --entry NAME [--json] [--config FILE]
       chatops key rotate [--finish] [--json] [--config FILE]
`;

/** What was done: facts for programs, lines for people. */
interface KeyCommandResult {
  facts: object;
  lines: string[];
  /** Exit code. */
  code?: number;
}

/** Keys: what they are called, which of them an entry of agent.yaml trusts, and the change of the agent's own. */
export async function keyCommand(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      config: { type: 'string', default: '/etc/chatops/agent.yaml' },
      entry: { type: 'string' },
      finish: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    },
  });
  const done = await runKeyCommand(positionals, values);
  if (!done) {
    throw cliRefusals.wrongCall(USAGE);
  }
  const { facts, lines, code = 0 } = done;
  for (const line of values.json ? [JSON.stringify(facts)] : lines) console.log(line);
  return code;
}

/** Undefined where that is no call. */
async function runKeyCommand(
  [verb, subject, ...rest]: string[],
  { config, entry, finish }: { config: string; entry?: string | undefined; finish: boolean },
): Promise<KeyCommandResult | undefined> {
  if (rest.length === 0) {
    if (verb === 'fingerprint' && subject !== undefined) return fingerprint(subject);
    if (verb === 'rotate' && subject === undefined) return rotate(config, finish);
    if (verb === 'add' && subject !== undefined && entry !== undefined) {
      const added = readPublicKey(subject);
      changeEntryKeys(config, entry, keys => (keys.some(({ id }) => id === added.id) ? keys : [...keys, added]));
      return reloadAgent(config, { key: added.id, entry }, [`the key ${added.id} is trusted under "${entry}"`]);
    }
    if (verb === 'remove' && subject !== undefined && entry !== undefined) {
      changeEntryKeys(config, entry, keys => {
        const left = keys.filter(({ id }) => id !== subject);
        if (left.length === keys.length)
          throw cliRefusals.keyUnknown(
            entry,
            subject,
            keys.map(({ id }) => id),
          );
        return left;
      });
      const told = `the key ${subject} is not trusted under "${entry}" any more`;
      return reloadAgent(config, { key: subject, entry }, [told]);
    }
  }
  return undefined;
}

/** Of a key as text or in a file, secret or public: what the audit and the log call it. */
function fingerprint(subject: string): KeyCommandResult {
  const text = existsSync(subject) ? readFileSync(subject, 'utf8') : subject;
  const isSecret = text.includes('ed25519-secret:') || text.includes('PRIVATE KEY');
  const { id, text: shown } = isSecret ? readSecretKey(text).public : readPublicKey(text);
  return { facts: { id, public: shown }, lines: [`key id: ${id}`, `public: ${shown}`] };
}

/**
 * First a key is made that is to follow, and the agent signs with both; with `finish` it takes the old one's place. In
 * between every workflow is given the new one, each when it suits.
 */
async function rotate(config: string, isLast: boolean): Promise<KeyCommandResult> {
  const { state_dir } = readConfig(config);
  const [file, next] = [join(state_dir, KEY_FILE), join(state_dir, NEXT_KEY_FILE)];
  if (isLast) {
    if (!existsSync(next)) throw cliRefusals.notBegun('There is no key that is to follow.', 'chatops key rotate');
    renameSync(next, file);
    return reloadAgent(config, { finished: true }, ['the new key has taken the old one’s place']);
  }
  const then = 'Put this one into the workflows, then: chatops key rotate --finish';
  if (existsSync(next)) {
    const { text } = readSecretKey(readFileSync(next, 'utf8')).public;
    return { facts: { agent_key: text }, lines: [`agent-key: ${text}`, `This key is to follow already. ${then}`] };
  }
  const made = makeKey(next);
  return reloadAgent(config, { agent_key: made }, [`agent-key: ${made}`, `The agent signs with both keys. ${then}`]);
}

/** Changes the keys of one entry, and leaves everything else of the file (comments too) as it is. Throws `Refused` or a ConfigError. */
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
  const keys = edit(texts.map(readPublicKey)).map(one => one.text);
  if (keys.length === 0) found.delete('key');
  else found.set('key', keys.length === 1 ? keys[0] : document.createNode(keys));
  const changed = document.toString({ lineWidth: 0 });
  parseConfig(changed, file);
  const partial = `${file}.partial`;
  writeFileSync(partial, changed, { mode: statSync(file).mode & 0o777 });
  renameSync(partial, file);
}

/** Tells the agent of this host, where one runs. */
async function reloadAgent(config: string, facts: object, lines: string[]): Promise<KeyCommandResult> {
  const socket = findSocket({ config });
  if (!existsSync(socket))
    return {
      facts: { ...facts, reloaded: false },
      lines: [...lines, 'No agent runs here; it takes this over at its start.'],
    };
  const { taken, message } = await requestAgent<{ taken: boolean; message: string }>(socket, 'POST', '/reload', {});
  return { facts: { ...facts, reloaded: taken, message }, lines: [...lines, message], code: taken ? 0 : 1 };
}
