package main

import (
	"bytes"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// How long a connection that was refused may take to say goodbye.
const closeTimeout = time.Second

// isName reports whether bytes are 1 to 64 of the characters that names of users and rooms are made of.
func isName(bytes []byte) bool {
	for _, character := range bytes {
		switch {
		case 'a' <= character && character <= 'z', 'A' <= character && character <= 'Z',
			'0' <= character && character <= '9', character == '_', character == '.', character == '-':
		default:
			return false
		}
	}
	return 1 <= len(bytes) && len(bytes) <= 64
}

// room is the set of its members. Its mutex is held over a broadcast, which gives the messages of a room one order.
type room struct {
	mutex   sync.Mutex
	members map[*connection]struct{}
}

// hub finds rooms and users by name.
type hub struct {
	mutex sync.RWMutex
	rooms map[string]*room
	users map[string]*connection
}

func newHub() *hub {
	return &hub{rooms: map[string]*room{}, users: map[string]*connection{}}
}

func (hub *hub) login(member *connection, name string) {
	hub.mutex.Lock()
	defer hub.mutex.Unlock()
	hub.logout(member)
	member.name = name
	hub.users[name] = member
}

// logout frees the name of member unless another connection has taken it since. The caller holds hub.mutex.
func (hub *hub) logout(member *connection) {
	if hub.users[member.name] == member {
		delete(hub.users, member.name)
	}
}

func (hub *hub) join(member *connection, name string) {
	if _, joined := member.rooms[name]; joined {
		return
	}
	hub.mutex.Lock()
	defer hub.mutex.Unlock()
	joined := hub.rooms[name]
	if joined == nil {
		joined = &room{members: map[*connection]struct{}{}}
		hub.rooms[name] = joined
	}
	joined.mutex.Lock()
	joined.members[member] = struct{}{}
	joined.mutex.Unlock()
	if member.rooms == nil {
		member.rooms = map[string]*room{}
	}
	member.rooms[name] = joined
}

func (hub *hub) leaveAll(member *connection) {
	hub.mutex.Lock()
	defer hub.mutex.Unlock()
	hub.logout(member)
	for name, left := range member.rooms {
		left.mutex.Lock()
		delete(left.members, member)
		if len(left.members) == 0 {
			delete(hub.rooms, name)
		}
		left.mutex.Unlock()
	}
}

func (hub *hub) send(name string, message *outgoing) {
	hub.mutex.RLock()
	target := hub.rooms[name]
	hub.mutex.RUnlock()
	if target == nil {
		return
	}
	target.mutex.Lock()
	defer target.mutex.Unlock()
	for member := range target.members {
		member.outbox.push(message)
	}
}

func (hub *hub) direct(name string, message *outgoing) {
	hub.mutex.RLock()
	target := hub.users[name]
	hub.mutex.RUnlock()
	if target != nil {
		target.outbox.push(message)
	}
}

// connection is one WebSocket on /rooms. Its name and rooms belong to the goroutine that reads.
type connection struct {
	hub    *hub
	socket *websocket.Conn
	outbox *outbox
	name   string
	rooms  map[string]*room
}

func newConnection(hub *hub, socket *websocket.Conn) *connection {
	return &connection{hub: hub, socket: socket, outbox: newOutbox(socket)}
}

func (member *connection) serve() {
	go member.outbox.write()
	defer member.outbox.close()
	defer member.hub.leaveAll(member)
	var buffer bytes.Buffer
	for {
		kind, err := readMessage(member.socket, &buffer)
		if err != nil {
			return
		}
		if kind != websocket.TextMessage || !member.obey(buffer.Bytes()) {
			member.refuse()
			return
		}
	}
}

// refuse sends close code 1003 and reads on until the other side has answered, or else what it had already sent would
// make the kernel reset the connection and discard the code.
func (member *connection) refuse() {
	deadline := time.Now().Add(closeTimeout)
	refusal := websocket.FormatCloseMessage(websocket.CloseUnsupportedData, "")
	err := member.socket.WriteControl(websocket.CloseMessage, refusal, deadline)
	if err == nil {
		err = member.socket.SetReadDeadline(deadline)
	}
	for err == nil {
		_, _, err = member.socket.NextReader()
	}
}

// obey carries out one command and reports whether it was one. Preparing the message copies it out of the buffer.
func (member *connection) obey(message []byte) bool {
	command, rest, _ := bytes.Cut(message, []byte(" "))
	argument, _, hasText := bytes.Cut(rest, []byte(" "))
	if !isName(argument) {
		return false
	}
	name := string(argument)
	action := string(command)
	if (action == "send" || action == "direct") != hasText {
		return false
	}
	switch action {
	case "login":
		member.hub.login(member, name)
		member.outbox.push(prepare(message))
	case "join":
		member.hub.join(member, name)
		member.outbox.push(prepare(message))
	case "send":
		member.hub.send(name, prepare(message))
	case "direct":
		member.hub.direct(name, prepare(message))
	default:
		return false
	}
	return true
}
