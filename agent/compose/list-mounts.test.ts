import { describe, expect, it } from 'vitest';
import { bind, config, DIR, type Node, RULES } from '../../test/fixtures/rendered-config.ts';
import { listMounts } from './list-mounts.ts';

describe('the mounts of a config', () => {
  it('are its binds, its volumes that are folders, and the files of its configs and secrets', () => {
    const web = {
      volumes: [...bind(`${DIR}/a`).volumes, { type: 'volume', source: 'v', target: '/v', read_only: true }],
    };
    const rendered = config(
      { ...web, secrets: [{ source: 's' }] },
      {
        volumes: { v: { name: 'app_v', driver_opts: { type: 'none', o: 'bind', device: '/srv/v' } } },
        secrets: { s: { file: `${DIR}/s` } },
        configs: { c: { file: '/srv/c' } },
      },
    );
    (rendered.services as Node).second = { image: 'x', ...bind(`${DIR}/a`, { read_only: true, bind: {} }) };
    const rules = { ...RULES, readOnlyBinds: ['/srv'] };
    expect(listMounts(rendered, rules)).toEqual([
      { kind: 'bind', services: ['web', 'second'], source: `${DIR}/a`, root: DIR, writable: true, create: true },
      { kind: 'bind', services: ['web'], source: '/srv/v', root: '/srv', writable: false, create: false },
      { kind: 'config', services: [], source: '/srv/c', root: '/srv', writable: false, create: false },
      { kind: 'secret', services: ['web'], source: `${DIR}/s`, root: DIR, writable: false, create: false },
    ]);
  });
});
