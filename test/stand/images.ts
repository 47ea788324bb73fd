import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const APPLETS = [
  'sh',
  'timeout',
  'mkdir',
  'rm',
  'cp',
  'ls',
  'sleep',
  'cat',
  'stat',
  'chown',
  'chmod',
  'true',
  'env',
  'id',
];

/** Root folder of an image: programs of this machine with the libraries that they load, and a static busybox. */
class Root {
  readonly dir = mkdtempSync(join(tmpdir(), 'chatops-image-'));

  constructor() {
    for (const folder of ['bin', 'tmp', 'etc']) mkdirSync(join(this.dir, 'root', folder), { recursive: true });
    for (const applet of APPLETS) execFileSync('cp', ['/bin/busybox', join(this.dir, 'root/bin', applet)]);
    chmodSync(join(this.dir, 'root/tmp'), 0o1777);
  }

  /** Copies programs and folders to the same paths in the image, with the libraries that the programs load. */
  add(...paths: string[]): void {
    const loaded = paths.flatMap(path => {
      const text = execFileSync('sh', ['-c', 'ldd "$1" 2>/dev/null || true', 'sh', path], { encoding: 'utf8' });
      return [...text.matchAll(/(\/\S+)(?= \(0x)/g)].map(([, library = '']) => library);
    });
    const all = [...new Set([...paths, ...loaded])].filter(existsSync);
    execFileSync('cp', ['--recursive', '--dereference', '--parents', '--no-clobber', ...all, join(this.dir, 'root')]);
  }

  write(path: string, text: string, mode = 0o644): void {
    mkdirSync(join(this.dir, 'root', path, '..'), { recursive: true });
    writeFileSync(join(this.dir, 'root', path), text, { mode });
  }

  build(tag: string, lines: string[]): void {
    writeFileSync(join(this.dir, 'Dockerfile'), ['FROM scratch', 'COPY root/ /', ...lines, ''].join('\n'));
    execFileSync('docker', ['build', '--quiet', '--tag', tag, this.dir], {
      env: { ...process.env, DOCKER_BUILDKIT: '0' },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    rmSync(this.dir, { recursive: true });
  }
}

function has(tag: string): boolean {
  return execFileSync('docker', ['image', 'ls', '--quiet', tag], { encoding: 'utf8' }).trim() !== '';
}

/** The web server of fixtures/world: it answers at the port PORT. */
export function homelabImage(name = 'chatops-test/homelab'): string {
  const tag = `${name}:1`;
  if (has(tag)) return name;
  const root = new Root();
  for (const applet of ['httpd', 'wget', 'date', 'touch', 'test', 'echo'])
    execFileSync('cp', ['/bin/busybox', join(root.dir, 'root/bin', applet)]);
  root.write('www/index.html', 'ok\n');
  root.write('etc/passwd', 'root:x:0:0::/:/bin/sh\n');
  root.write('etc/group', 'root:x:0:\ndialout:x:20:\n');
  root.build(tag, [
    `CMD ["sh", "-c", "trap 'exit 0' TERM INT; httpd -p \${PORT:-8080} -h /www; while :; do sleep 1; done"]`,
  ]);
  return name;
}

/** PostgreSQL of this machine's package with the variables, folders and user of the official image. */
export function postgresImage(tag = 'chatops-test/postgres:1'): string {
  if (has(tag)) return tag;
  const root = new Root();
  const version = readdirSync('/usr/lib/postgresql').sort().at(-1) ?? '';
  const bin = `/usr/lib/postgresql/${version}/bin`;
  const programs = [
    'postgres',
    'initdb',
    'pg_ctl',
    'pg_dump',
    'pg_dumpall',
    'pg_restore',
    'psql',
    'createdb',
    'dropdb',
  ];
  root.add(...programs.map(name => `${bin}/${name}`), `${bin}/pg_isready`);
  root.add(`/usr/share/postgresql/${version}`, '/usr/share/zoneinfo/UTC');
  root.add(...['plpgsql', 'dict_snowball'].map(name => `/usr/lib/postgresql/${version}/lib/${name}.so`));
  root.write('etc/passwd', 'root:x:0:0::/:/bin/sh\npostgres:x:999:999::/tmp:/bin/sh\n');
  root.write('var/run/postgresql/.keep', '');
  chmodSync(join(root.dir, 'root/var/run/postgresql'), 0o1777);
  root.write('var/lib/postgresql/data/.keep', '');
  chmodSync(join(root.dir, 'root/var/lib/postgresql/data'), 0o1777);
  root.write(
    'start',
    `#!/bin/sh
D=/var/lib/postgresql/data/pgdata
[ -e $D/PG_VERSION ] || ${bin}/initdb --auth trust --username "\${POSTGRES_USER:-postgres}" --encoding UTF8 --no-locale --no-sync $D || exit 1
exec ${bin}/postgres -D $D -c listen_addresses=127.0.0.1 -c fsync=off
`,
    0o755,
  );
  root.build(tag, [`ENV PATH=${bin}:/bin`, 'USER 999:999', 'CMD ["/start"]']);
  return tag;
}

/** MariaDB of this machine's package, with a root user whose password is MARIADB_ROOT_PASSWORD. */
export function mariadbImage(tag = 'chatops-test/mariadb:1'): string {
  if (has(tag)) return tag;
  const root = new Root();
  root.add('/usr/sbin/mariadbd', '/usr/bin/mariadb', '/usr/bin/mariadb-dump', '/usr/bin/mariadb-admin');
  root.add('/usr/share/mysql');
  const seed = join(root.dir, 'root/seed');
  execFileSync(
    'mariadb-install-db',
    [
      ...['--no-defaults', '--user=root', `--datadir=${seed}`, '--auth-root-authentication-method=normal'],
      ...['--skip-test-db', '--innodb-log-file-size=4M'],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  root.write('etc/passwd', 'root:x:0:0::/:/bin/sh\n');
  root.write('run/mysqld/.keep', '');
  root.write('var/lib/mysql/.keep', '');
  root.write(
    'start',
    `#!/bin/sh
D=/var/lib/mysql
[ -d $D/mysql ] || cp -a /seed/. $D/
echo "ALTER USER root@localhost IDENTIFIED BY '$MARIADB_ROOT_PASSWORD';
CREATE OR REPLACE USER root@127.0.0.1 IDENTIFIED BY '$MARIADB_ROOT_PASSWORD';
GRANT ALL ON *.* TO root@127.0.0.1 WITH GRANT OPTION;" > /tmp/init.sql
exec mariadbd --no-defaults --user=root --datadir=$D --bind-address=127.0.0.1 --skip-name-resolve --socket=/run/mysqld/mysqld.sock --innodb-log-file-size=4M --innodb-flush-log-at-trx-commit=0 --init-file=/tmp/init.sql
`,
    0o755,
  );
  root.build(tag, ['ENV PATH=/usr/sbin:/usr/bin:/bin', 'CMD ["/start"]']);
  return tag;
}

export const PLEX_DATABASES = '/config/Library/Application Support/Plex Media Server/Plug-in Support/Databases';

/** Layout of a Plex server: its own sqlite3, a library in WAL mode and a process that writes to it all the time. */
export function plexImage(tag = 'chatops-test/plex:1'): string {
  if (has(tag)) return tag;
  const root = new Root();
  root.add('/usr/bin/sqlite3');
  mkdirSync(join(root.dir, 'root/usr/lib/plexmediaserver'), { recursive: true });
  execFileSync('mv', [
    join(root.dir, 'root/usr/bin/sqlite3'),
    join(root.dir, 'root/usr/lib/plexmediaserver/Plex SQLite'),
  ]);
  root.write('etc/passwd', 'root:x:0:0::/:/bin/sh\n');
  root.write(
    'start',
    `#!/bin/sh
trap 'exit 0' TERM
D="${PLEX_DATABASES}"
PS="/usr/lib/plexmediaserver/Plex SQLite"
mkdir -p "$D"
echo '<Preferences MachineIdentifier="1"/>' > "$D/../../Preferences.xml"
for db in library library.blobs; do
  "$PS" "$D/com.plexapp.plugins.$db.db" "PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS metadata_items (n INTEGER, filler BLOB); CREATE TABLE IF NOT EXISTS media_parts (n INTEGER);"
done
while :; do
  "$PS" "$D/com.plexapp.plugins.library.db" ".timeout 10000" "BEGIN IMMEDIATE; WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 200) INSERT INTO metadata_items SELECT n, randomblob(40) FROM c; WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 200) INSERT INTO media_parts SELECT n FROM c; COMMIT;" > /dev/null
  sleep 0.05
done
`,
    0o755,
  );
  root.build(tag, ['ENV PATH=/bin', 'CMD ["/start"]']);
  return tag;
}
