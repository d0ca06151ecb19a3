// The peer `gorilla`: Go's net/http and gorilla/websocket, speaking the protocol of ../README.md.
//
// Bound of a receiver that does not read: 4 MiB of messages that wait behind the write under way (outboxBytesMax). The
// message that exceeds it closes the connection.
//
// The choices, and why they are the fastest that a user of this library would write:
//
//   - A broadcast is one websocket.PreparedMessage: framed once, shared by all members.
//   - One writer goroutine a connection, as the library's chat example has it. What waits for it is a slice under a
//     mutex instead of a channel, since a channel of useful depth would hold 64 KiB in every idle connection.
//   - The writer takes all that waits at once, and gatheringConn turns it into one system call. The library itself
//     calls write once a message; a net.Conn that buffers below it is its only way to gather.
//   - The HTTP handler returns and leaves reading to a goroutine of its own, so that net/http's memory for the request
//     is collected (the advice of the chat example). Write buffers come from a pool.
//   - The Go runtime reads the affinity mask itself, sets TCP_NODELAY, and listens with a backlog of
//     net.core.somaxconn.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

const (
	outboxBytesMax  = 4 << 20
	messageBytesMax = 1 << 20
)

var upgrader = websocket.Upgrader{
	WriteBufferPool: &sync.Pool{},
	CheckOrigin:     func(*http.Request) bool { return true },
}

// upgrade makes the request a WebSocket and hands it to serve on a new goroutine.
func upgrade(serve func(*websocket.Conn)) http.HandlerFunc {
	return func(response http.ResponseWriter, request *http.Request) {
		socket, err := upgrader.Upgrade(response, request, nil)
		if err != nil {
			return // Upgrade has answered the request with the reason.
		}
		socket.SetReadLimit(messageBytesMax)
		go serve(socket)
	}
}

// readMessage reads a message into buffer, whose memory is used again for each one.
func readMessage(socket *websocket.Conn, buffer *bytes.Buffer) (kind int, err error) {
	kind, reader, err := socket.NextReader()
	if err != nil {
		return 0, err
	}
	buffer.Reset()
	_, err = buffer.ReadFrom(reader)
	return kind, err
}

func serveEcho(socket *websocket.Conn) {
	defer socket.Close()
	var buffer bytes.Buffer
	for {
		kind, err := readMessage(socket, &buffer)
		if err != nil {
			return
		}
		if err := socket.WriteMessage(kind, buffer.Bytes()); err != nil {
			return
		}
	}
}

// listenerOfGathering accepts connections whose writes can be gathered.
type listenerOfGathering struct{ net.Listener }

func (listener listenerOfGathering) Accept() (net.Conn, error) {
	accepted, err := listener.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &gatheringConn{Conn: accepted}, nil
}

func main() {
	address := flag.String("listen", "127.0.0.1:9001", "address and port to listen on")
	flag.Parse()

	hub := newHub()
	http.HandleFunc("/echo", upgrade(serveEcho))
	http.HandleFunc("/rooms", upgrade(func(socket *websocket.Conn) { newConnection(hub, socket).serve() }))

	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on ws://%s\n", listener.Addr())
	log.Fatal(http.Serve(listenerOfGathering{listener}, nil))
}
