import { randomBytes } from 'node:crypto';
import { chownSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { readConfig } from '../../config/load.ts';
import { readSecrets } from '../../system/secret-file.ts';
import type { Arguments, Options } from '../commands.ts';
import { cliRefusals } from '../refusals.ts';

/** Adds a second secret to a hook, so that both are valid; with `--finish` only the newest stays. */
export function hookRotateCommand(
  [name]: Arguments<'hook rotate'>,
  { config, finish, json }: Options<'hook rotate'>,
): number {
  const file = findSecretFile(name, config);
  if (finish) {
    const secrets = readSecrets(file);
    const newest = secrets.at(-1);
    if (secrets.length < 2 || newest === undefined)
      throw cliRefusals.rotationNotStarted(`The hook "${name}" has only one secret.`, `chatops hook rotate ${name}`);
    replace(file, `${newest}\n`);
    console.log(json ? JSON.stringify({ hook: name, finished: true }) : 'The new secret has replaced the old one.');
    return 0;
  }
  const secret = randomBytes(24).toString('base64url');
  replace(file, `${readFileSync(file, 'utf8').trimEnd()}\n${secret}\n`);
  if (json) {
    console.log(JSON.stringify({ hook: name, secret }));
    return 0;
  }
  console.log(`secret: ${secret}`);
  console.log(
    `Both secrets are valid now. Give the new one to the sender, then run: chatops hook rotate ${name} --finish`,
  );
  return 0;
}

/** Throws `Refused`. */
function findSecretFile(name: string, config: string): string {
  const { hooks } = readConfig(config);
  const hook = hooks.find(one => one.name === name);
  if (!hook) {
    const names = hooks.map(one => one.name);
    throw cliRefusals.hookUnknown(name, config, names);
  }
  const file = hook.hmac_file ?? hook.token_file ?? hook.path_file ?? '';
  if (file.startsWith('credential:')) throw cliRefusals.credentialKept(file);
  return file;
}

function replace(file: string, text: string): void {
  const { mode, uid, gid } = statSync(file);
  const partial = `${file}.partial`;
  writeFileSync(partial, text, { mode: mode & 0o777, flag: 'wx' });
  if (process.getuid?.() === 0) chownSync(partial, uid, gid);
  renameSync(partial, file);
}
