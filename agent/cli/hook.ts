import { randomBytes } from 'node:crypto';
import { chownSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { readConfig } from '../config/load.ts';
import { readSecrets } from '../system/secret-file.ts';
import { cliRefusals } from './refusals.ts';

const USAGE = 'usage: chatops hook rotate NAME [--finish] [--json] [--config FILE]\n';

/** The change of a hook's secret: first another is added, and both are good; with `--finish` the old ones go. */
export function hookCommand(args: string[]): number {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      config: { type: 'string', default: '/etc/chatops/agent.yaml' },
      finish: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    },
  });
  const [verb, name, ...rest] = positionals;
  if (verb !== 'rotate' || name === undefined || rest.length > 0) {
    throw cliRefusals.wrongCall(USAGE);
  }
  const { hooks } = readConfig(values.config);
  const found = hooks.find(one => one.name === name);
  if (!found)
    throw cliRefusals.hookUnknown(
      name,
      values.config,
      hooks.map(one => one.name),
    );
  const file = found.hmac_file ?? found.token_file ?? found.path_file ?? '';
  if (file.startsWith('credential:')) throw cliRefusals.credentialKept(file);
  if (values.finish) {
    const secrets = readSecrets(file);
    const last = secrets.at(-1);
    if (secrets.length < 2 || last === undefined)
      throw cliRefusals.notBegun('There is one secret only.', `chatops hook rotate ${name}`);
    replace(file, `${last}\n`);
    console.log(
      values.json ? JSON.stringify({ hook: name, finished: true }) : 'the new secret has taken the old one’s place',
    );
    return 0;
  }
  const secret = randomBytes(24).toString('base64url');
  replace(file, `${readFileSync(file, 'utf8').trimEnd()}\n${secret}\n`);
  if (values.json) {
    console.log(JSON.stringify({ hook: name, secret }));
    return 0;
  }
  console.log(`secret: ${secret}`);
  console.log(`Both are good now. Give this one to the sender, then: chatops hook rotate ${name} --finish`);
  return 0;
}

function replace(file: string, text: string): void {
  const { mode, uid, gid } = statSync(file);
  const partial = `${file}.partial`;
  writeFileSync(partial, text, { mode: mode & 0o777, flag: 'wx' });
  if (process.getuid?.() === 0) chownSync(partial, uid, gid);
  renameSync(partial, file);
}
