import { type Intent, parseBackupSubject } from '../../intents/intent.ts';

/** A thing of this host that an intent names. The stack that it belongs to is not necessarily the stack that the intent names. */
export type Subject =
  | { kind: 'stack'; name: string }
  | { kind: 'path'; path: string }
  /** A place of backups: it belongs to a stack only if it is below stacks.root. */
  | { kind: 'place'; path: string }
  /** `path`: inside the container; `holds`: what is there. */
  | { kind: 'container'; name: string; path?: string; holds?: 'data' | 'backups' }
  /** The file that blue-green writes for a reverse proxy. */
  | { kind: 'switch'; path: string; stack: string }
  /** The data of an earlier backup. */
  | { kind: 'backup'; of: { kind: string; name: string }; from: string }
  | { kind: 'guest'; id: string };

/**
 * The meaning of a field for the rules about stacks. `inside` and `room`: a path inside the container of the same name, or a
 * place of backups there. `nothing`: a field that names nothing of the host, or nothing in addition to the other fields.
 */
type Role = 'nothing' | 'stack' | 'path' | 'place' | 'container' | 'inside' | 'room' | 'switch' | 'backup' | 'guest';

function roles<R extends Role>(role: R, ...fields: string[]): Record<string, R> {
  return Object.fromEntries(fields.map(field => [field, role]));
}

const COMMON = {
  ...roles('nothing', 'action', 'id', 'label_required', 'host', 'hosts', 'max_unavailable', 'canary', 'timeout'),
  // "needs" reads the agent's own records of backups. A rollback restores only data of its own stack (restore-data.ts).
  ...roles('nothing', 'needs', 'if', 'on_failure', 'max_parallel'),
};
/** Bounded by verify.allow of agent.yaml. */
const VERIFY = {
  ...roles('nothing', 'verify.healthy', 'verify.settle', 'verify.http.url', 'verify.http.status', 'verify.http.body'),
  ...roles('nothing', 'verify.http.timeout', 'verify.http.retries'),
  ...roles('nothing', 'verify.tcp.address', 'verify.tcp.timeout', 'verify.tcp.retries'),
};

/** The claims of the executor keep "compose" in the folder of the stack. */
const STACK = { ...COMMON, ...VERIFY, stack: 'stack', compose: 'nothing' } as const;

/** Every field of every intent, by action. A field that is not listed is a fault: {@link listSubjects} throws. */
export const FIELD_ROLES: Record<Intent['action'], Record<string, Role>> = {
  rollout: {
    ...{ ...STACK, 'switch.file': 'switch' },
    // source_dir is a folder of the repository.
    ...roles('nothing', 'service', 'source_dir', 'strategy', 'switch.service', 'switch.text'),
    ...roles('nothing', 'backup_before', 'max_age'),
  },
  scale: { ...STACK, ...roles('nothing', 'service', 'replicas') },
  // "to" is the id of a run.
  rollback: { ...STACK, ...roles('nothing', 'to', 'restore_data') },
  backup: {
    ...{ ...COMMON, stack: 'stack', vm_id: 'guest' },
    ...{ source: 'path', source_container: 'container', source_path: 'inside' },
    ...{ destination: 'place', destination_container: 'container', destination_path: 'room' },
    ...roles('nothing', 'backup_type', 'database_type', 'retention_days', 'min_keep', 'stall_timeout', 'lock_wait'),
    ...roles('nothing', 'keep.last', 'keep.daily', 'keep.weekly', 'keep.monthly', 'keep.yearly', 'notes'),
    ...roles('nothing', 'exclude', 'options', 'method', 'verify_level', 'consistency', 'ownership', 'accept_shrink'),
    // Services of "stack".
    ...roles('nothing', 'stop_services', 'storage', 'compress', 'mode', 'expected_node', 'database', 'user'),
  },
  restore: {
    ...{ ...COMMON, ...VERIFY, stack: 'stack', of: 'backup', 'of.name': 'backup', 'of.vm_id': 'guest', from: 'place' },
    ...{ to: 'path', to_container: 'container', to_path: 'inside', to_vm_id: 'guest' },
    ...roles('nothing', 'of.kind', 'at', 'stall_timeout', 'stop_services', 'confirm_overwrite', 'database', 'user'),
    ...roles('nothing', 'storage'),
  },
  drill: {
    ...{ ...COMMON, of: 'backup', 'of.name': 'backup', from: 'place' },
    ...roles('nothing', 'of.kind', 'at', 'stall_timeout'),
  },
};

/** Lists the things of this host that the intent names. `root`: the folder of the stacks. */
export function listSubjects(intent: Intent, root: string): Subject[] {
  const values = new Map(flatten(intent));
  const text = (field: string) => values.get(field)?.[0];
  const stack = text('stack') ?? '';
  const inStack = (path: string) => (path.startsWith('/') ? path : `${root}/${stack}/${path}`);
  const subjects: Subject[] = [];
  for (const [field, found] of values) {
    const role = Object.hasOwn(FIELD_ROLES[intent.action], field) ? FIELD_ROLES[intent.action][field] : undefined;
    if (role === undefined) throw new Error(`The field "${field}" of ${intent.action} has no role in FIELD_ROLES`);
    for (const value of found) {
      switch (role) {
        case 'stack':
          subjects.push({ kind: 'stack', name: value });
          break;
        case 'path':
          subjects.push({ kind: 'path', path: value });
          break;
        case 'place':
          // Other places are names, or folders of other hosts.
          if (value.startsWith('/')) subjects.push({ kind: 'place', path: value });
          break;
        case 'container':
          subjects.push({ kind: 'container', name: value });
          break;
        case 'inside':
        case 'room': {
          const container = text(field.replace(/_path$/, '_container'));
          const holds = role === 'inside' ? 'data' : 'backups';
          if (container !== undefined) subjects.push({ kind: 'container', name: container, path: value, holds });
          else subjects.push({ kind: role === 'inside' ? 'path' : 'place', path: value });
          break;
        }
        case 'switch':
          subjects.push({ kind: 'switch', path: inStack(value), stack });
          break;
        case 'backup':
          subjects.push({ kind: 'backup', ...backupOf(intent) });
          break;
        case 'guest':
          subjects.push({ kind: 'guest', id: value });
          break;
        case 'nothing':
          break;
        default:
          role satisfies never;
      }
    }
  }
  return subjects;
}

function backupOf(intent: Intent): { of: { kind: string; name: string }; from: string } {
  if (
    (intent.action !== 'restore' && intent.action !== 'drill') ||
    (typeof intent.of === 'object' && 'vm_id' in intent.of)
  )
    throw new Error(`${intent.action} names no backup`);
  return { of: parseBackupSubject(intent.of), from: intent.from };
}

/** Lists the fields of a value with their texts: `switch.file`. The elements of a list are values of its field. */
function flatten(value: object): [field: string, texts: string[]][] {
  const found = new Map<string, string[]>();
  const add = (field: string, part: unknown): void => {
    if (part === undefined) return;
    if (Array.isArray(part)) {
      for (const one of part) add(field, one);
    } else if (typeof part === 'object' && part !== null) {
      for (const [key, one] of Object.entries(part)) add(field === '' ? key : `${field}.${key}`, one);
    } else found.set(field, [...(found.get(field) ?? []), String(part)]);
  };
  add('', value);
  return [...found];
}
