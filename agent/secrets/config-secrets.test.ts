import { describe, expect, it } from 'vitest';
import { listSecrets } from './config-secrets.ts';

const NAMES = { shown: [], hidden: [] };
const valuesOf = (config: unknown) => [...new Set(listSecrets(config, NAMES).map(({ value }) => value))];

describe('the secrets of a rendered config', () => {
  it('are found in variables, secrets, URLs, commands, labels, options and build arguments', () => {
    const config = {
      name: 'shop',
      services: {
        web: {
          image: 'registry.example.org/shop/web:1',
          build: { context: '/srv/stacks/shop', args: { NPM_TOKEN: 'build-token', MODE: 'production' } },
          command: ['serve', '--admin-password', 'on-the-line', '--port=8080', '--api-key=with-equals'],
          entrypoint: ['sh', '-c', 'exec app --db postgres://app:in-a-url@db/app'],
          environment: { DB_PASSWORD: 'in-a-variable', DB_NAME: 'shop', TZ: 'Etc/UTC', PORT: '8080' },
          labels: { 'traefik.http.routers.web.rule': 'Host(`shop.example.org`)', 'homepage.widget.key': 'in-a-label' },
          healthcheck: { test: ['CMD', 'curl', 'http://localhost/health?token=in-a-query'] },
          logging: { driver: 'splunk', options: { 'splunk-token': 'in-an-option' } },
        },
      },
      volumes: { nas: { driver: 'local', driver_opts: { type: 'cifs', o: 'username=shop,password=in-the-mount,rw' } } },
      secrets: { one: { content: 'in-a-secret' }, two: { file: '/srv/stacks/shop/two.txt' } },
      configs: { app: { content: 'name = shop\nsmtp_password = in-a-config\n' } },
    };
    expect(valuesOf(config).sort()).toEqual(
      [
        'build-token',
        'in-a-config',
        'in-a-label',
        'in-a-query',
        'in-a-secret',
        'in-a-url',
        'in-a-variable',
        'in-an-option',
        'in-the-mount',
        'on-the-line',
        'with-equals',
      ].sort(),
    );
  });

  it('are found in lists of variables, and in the defaults of a file that is not rendered', () => {
    const environment = [
      'API_TOKEN=in-a-list',
      'DB_PASSWORD=$' + '{DB_PASSWORD:-by-default}',
      'EMPTY',
      'MODE=production',
    ];
    expect(valuesOf({ services: { web: { environment } } })).toEqual(['in-a-list', 'by-default']);
  });

  it('are found without much time in a large value', () => {
    const value = 'a.b://c=d:e@&'.repeat(60_000);
    const started = performance.now();
    valuesOf({ services: { web: { environment: { NOTE: value, OTHER: 'http://'.repeat(50_000) } } } });
    expect(performance.now() - started).toBeLessThan(3_000);
  });

  it('are none in a value that is not a config', () => {
    for (const config of [null, undefined, [], 'text', { services: null }, { secrets: [1] }])
      expect(valuesOf(config)).toEqual([]);
  });
});
