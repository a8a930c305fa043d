// A web app for Zexio: it listens on $HOST:$PORT, answers /up when it can serve, and ends on SIGTERM once the
// requests in flight are answered.
const http = require('node:http');

const { HOST = '127.0.0.1', PORT = '3000', ZEXIO_RELEASE = '0' } = process.env;

const server = http.createServer((request, response) => {
  if (request.url === '/up') return response.end('ok\n');
  response.setHeader('content-type', 'text/plain; charset=utf-8');
  response.end(`hello from node, release ${ZEXIO_RELEASE}\n`);
});

server.listen(Number(PORT), HOST, () => console.log(`listening on ${HOST}:${PORT}`));

process.on('SIGTERM', () => {
  console.log('asked to stop');
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
