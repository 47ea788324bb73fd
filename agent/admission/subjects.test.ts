import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { Intent } from '../../intents/intent.ts';
import { FIELD_ROLES, listSubjects } from './subjects.ts';

interface Schema {
  properties?: Record<string, Schema>;
  anyOf?: Schema[];
  items?: Schema;
  const?: unknown;
}

/** Lists the fields of a JSON schema that hold a value: `switch.file`. */
function fieldsOf({ properties, anyOf, items, ...rest }: Schema, at = ''): string[] {
  if (anyOf) return anyOf.flatMap(form => fieldsOf(form, at));
  if (items) return fieldsOf(items, at);
  if (!properties) return rest === undefined ? [] : [at];
  return Object.entries(properties).flatMap(([name, value]) => fieldsOf(value, at === '' ? name : `${at}.${name}`));
}

const forms = (z.toJSONSchema(Intent, { io: 'input' }) as Schema).anyOf ?? [];
const fieldsByAction = Object.keys(FIELD_ROLES).map(action => {
  const ofAction = forms.filter(({ properties }) => properties?.action?.const === action);
  return { action, fields: [...new Set(ofAction.flatMap(form => fieldsOf(form)))].sort() };
});
const subjectsOf = (intent: object) => listSubjects(Intent.parse(intent), '/opt/stacks');

describe('the roles of fields', () => {
  it.each(fieldsByAction)(
    'are decided for every field of $action in the schema, and for no other',
    ({ action, fields }) => {
      expect(fields.length).toBeGreaterThan(15);
      expect(Object.keys(FIELD_ROLES[action as Intent['action']]).sort()).toEqual(fields);
    },
  );

  it('cover every form of an intent', () => {
    const known = Object.keys(FIELD_ROLES);
    expect(
      forms.map(({ properties }) => properties?.action?.const).filter(one => !known.includes(String(one))),
    ).toEqual([]);
  });

  it.each(['constructor', 'mount', 'source_folder'])('stop an intent with the field "%s", which has none', field => {
    expect(() => listSubjects({ action: 'rollout', stack: 's', [field]: '/x' } as never, '/opt/stacks')).toThrow(
      `"${field}" of rollout has no role`,
    );
  });

  it.each<[string, object, object[]]>([
    [
      'a switch file',
      { action: 'rollout', stack: 's', strategy: 'blue-green', switch: { file: 'x', text: 't' } },
      [
        { kind: 'stack', name: 's' },
        { kind: 'switch', path: '/opt/stacks/s/x', stack: 's' },
      ],
    ],
    [
      'a source and a destination in containers',
      {
        ...{ action: 'backup', backup_type: 'docker_volumes', source_container: 'a', source_path: '/data' },
        ...{ destination_container: 'b', destination_path: '/backup' },
      },
      [
        { kind: 'container', name: 'a' },
        { kind: 'container', name: 'a', path: '/data', holds: 'data' },
        { kind: 'container', name: 'b' },
        { kind: 'container', name: 'b', path: '/backup', holds: 'backups' },
      ],
    ],
    [
      'a folder of the host for Plex',
      { action: 'backup', database_type: 'plex', source_container: 'plex', destination_path: '/mnt/nas' },
      [
        { kind: 'container', name: 'plex' },
        { kind: 'place', path: '/mnt/nas' },
      ],
    ],
    [
      'a place on another host, which is not a path of this one',
      { action: 'backup', backup_type: 'docker_volumes', source: '/srv/x', destination: 'rsync://nas/backup' },
      [{ kind: 'path', path: '/srv/x' }],
    ],
    [
      'a backup and its target',
      { action: 'restore', of: { kind: 'sqlite', name: 'db' }, from: '/mnt/nas', to: '/opt/stacks/s/a.db', stack: 's' },
      [
        { kind: 'backup', of: { kind: 'sqlite', name: 'db' }, from: '/mnt/nas' },
        { kind: 'place', path: '/mnt/nas' },
        { kind: 'path', path: '/opt/stacks/s/a.db' },
        { kind: 'stack', name: 's' },
      ],
    ],
    [
      'both guests of a restore',
      { action: 'restore', of: { kind: 'vm_proxmox', vm_id: 101 }, from: 'nas', to_vm_id: 900, storage: 'local' },
      [
        { kind: 'guest', id: '101' },
        { kind: 'guest', id: '900' },
      ],
    ],
  ])('find %s', (_, intent, subjects) => {
    const sorted = (all: object[]) => all.map(one => JSON.stringify(one, Object.keys(one).sort())).sort();
    expect(sorted(subjectsOf(intent))).toEqual(sorted(subjects));
  });
});
