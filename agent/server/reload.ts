import { createHash } from 'node:crypto';
import { messageOf } from '../../protocol/refusal.ts';
import type { Admission } from '../admission/admit.ts';
import type { AuthContext, AuthenticatedSender } from '../admission/authenticate.ts';
import type { AgentKeys } from '../config/agent-keys.ts';
import type { Live } from '../config/live.ts';
import { type Config, ConfigError } from '../config/load.ts';
import type { EndpointRecorder } from './endpoint-recorder.ts';

export interface ReloadDeps {
  live: Live<Config>;
  admission: Admission;
  keys: AgentKeys;
  /** Closes the sessions of senders that are not trusted any more, and returns these senders. */
  revoke: (isTrusted: (sender: AuthenticatedSender) => boolean) => AuthenticatedSender[];
  recorder: EndpointRecorder;
  log: (line: string) => void;
}

/** The result of a reload. `taken` is false if the old configuration stays. */
export interface ReloadResult {
  taken: boolean;
  message: string;
}

/** Returns the function that reads agent.yaml and the agent's keys again. Audit log and `log` get what changed, or why nothing did. */
export function createReload({ live, admission, keys, revoke, recorder, log }: ReloadDeps) {
  return (by: 'signal' | 'local'): ReloadResult => {
    const before = { trust: admission.trust, keys: keyIds(keys) };
    let needsRestart: string[];
    try {
      needsRestart = live.reload();
    } catch (error) {
      const code = error instanceof ConfigError ? error.code : 'fault';
      const cause = messageOf(error);
      recorder.write('reload-refused', { by, code, message: cause });
      const message = `configuration refused, the old one stays:\n${cause}`;
      log(message);
      return { taken: false, message };
    }
    for (const { id, entry } of revoke(sender => admission.isStillTrusted(sender)))
      recorder.write('connection-revoked', { key: id, trust: entry.name });
    const now = keyIds(keys);
    if (now.join() !== before.keys.join()) recorder.write('agent-key-changed', { before: before.keys, now });
    recorder.write('reloaded', {
      by,
      ...describeTrustChanges(before.trust, admission.trust),
      needs_restart: needsRestart,
    });
    const restart = needsRestart.length > 0 ? `; restart the agent for: ${needsRestart.join(', ')}` : '';
    const message = `configuration reloaded${restart}`;
    log(message);
    return { taken: true, message };
  };
}

function keyIds(keys: AgentKeys): string[] {
  return keys.all.map(({ public: { id } }) => id);
}

/** Returns for the audit log who is trusted now, and what changed. */
export function describeTrustChanges(before: AuthContext, now: AuthContext): object {
  const ids = ({ keys }: AuthContext) => keys.map(({ id, entry }) => `${entry.name}:${id}`);
  const policy = ({ entries }: AuthContext) => createHash('sha256').update(JSON.stringify(entries)).digest('hex');
  return {
    keys: now.keys.map(({ id }) => id),
    keys_added: ids(now).filter(id => !ids(before).includes(id)),
    keys_removed: ids(before).filter(id => !ids(now).includes(id)),
    policy: policy(now),
    policy_changed: policy(now) !== policy(before),
  };
}
