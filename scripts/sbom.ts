import { readFileSync, writeFileSync } from 'node:fs';

/** The fields of package-lock.json that the script reads. */
interface Locked {
  version: string;
  license?: string;
  integrity?: string;
  dev?: boolean;
  devOptional?: boolean;
}

/**
 * Writes the bundled packages of dist/ as CycloneDX 1.5, from the lock file. The same lock gives the same bytes on every
 * machine.
 * Usage: node scripts/sbom.ts OUT
 */
const [out = 'dist/sbom.cdx.json'] = process.argv.slice(2);
const { name, version, license } = JSON.parse(readFileSync('package.json', 'utf8')) as Record<string, string>;
const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as { packages: Record<string, Locked> };

const components = Object.entries(packages)
  .filter(([path, { dev, devOptional }]) => path.startsWith('node_modules/') && !dev && !devOptional)
  .map(([path, locked]) => {
    const full = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
    const [first = '', second] = full.split('/');
    const purl = `pkg:npm/${full.replace('@', '%40')}@${locked.version}`;
    const [algorithm, digest = ''] = (locked.integrity ?? '').split('-', 2);
    return {
      type: 'library',
      'bom-ref': `${purl}?path=${path}`,
      ...(second === undefined ? { name: first } : { group: first, name: second }),
      version: locked.version,
      purl,
      ...(locked.license === undefined ? {} : { licenses: [{ expression: locked.license }] }),
      ...(algorithm === 'sha512'
        ? { hashes: [{ alg: 'SHA-512', content: Buffer.from(digest, 'base64').toString('hex') }] }
        : {}),
    };
  });
const bom = {
  $schema: 'http://cyclonedx.org/schema/bom-1.5.schema.json',
  bomFormat: 'CycloneDX',
  specVersion: '1.5',
  version: 1,
  metadata: {
    component: {
      type: 'application',
      'bom-ref': `pkg:npm/${name}@${version}`,
      name,
      version,
      licenses: [{ license: { id: license } }],
    },
  },
  components,
};
writeFileSync(out, `${JSON.stringify(bom, null, 1)}\n`);
